"""Subscriptions: made with the organization, read by it, changed by the platform."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypeVar
from uuid import UUID

from sqlalchemy import select

from billing.domain.plans import PLANS, period_of
from billing.tables.subscriptions import Subscription
from chassis.errors import InvalidError, NotFoundError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.billing import SubscriptionCreated, SubscriptionRestated, SubscriptionState, SubscriptionUpdated
from resources.versions import require_version

S = TypeVar("S", bound=SubscriptionState)


async def create_subscription(uow: UnitOfWork, *, plan_id: str) -> Subscription:
    """Begin the organization's subscription; a second call changes nothing."""
    existing = await _subscription(uow)
    if existing is not None:
        return existing
    start, end = period_of(uow.now, "monthly")
    subscription = Subscription(
        id=new_id(),
        organization_id=uow.organization_id,
        plan_id=plan_id if plan_id in PLANS else "free",
        status="active",
        billing_cycle="monthly",
        current_period_start=start,
        current_period_end=end,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
        **asdict(PLANS.get(plan_id, PLANS["free"])),
    )
    await uow.add(subscription)
    uow.emit(_state(SubscriptionCreated, subscription))
    return subscription


async def get_subscription(uow: UnitOfWork) -> Subscription:
    """The organization's subscription; NotFoundError until it has been provisioned."""
    subscription = await _subscription(uow)
    if subscription is None:
        raise NotFoundError(
            "This organization has no subscription yet: it is made within a second of the organization."
        )
    uow.permit.check("subscription", str(subscription.id), {"plan_id": subscription.plan_id})
    return subscription


async def get_subscription_of(uow: UnitOfWork, organization_id: UUID) -> Subscription:
    """Another organization's subscription, as the platform; NotFoundError where there is none."""
    await uow.become(uow.caller.within(organization_id))
    return await _platforms(uow, lock=False)


async def change_plan(
    uow: UnitOfWork, organization_id: UUID, *, plan_id: str, limits: dict[str, int], expected_version: int | None
) -> Subscription:
    """Move an organization to another plan, as the platform; `limits` override single numbers of it."""
    if plan_id not in PLANS:
        raise InvalidError(f"There is no plan {plan_id!r}: choose {', '.join(PLANS)}.", code="unknown_plan")
    await uow.become(uow.caller.within(organization_id))
    subscription = await _platforms(uow, lock=True)
    require_version(subscription.version, expected_version)
    subscription.plan_id = plan_id
    for name, value in {**asdict(PLANS[plan_id]), **limits}.items():
        setattr(subscription, name, value)
    _changed(uow, subscription)
    return subscription


async def cancel_subscription(uow: UnitOfWork) -> None:
    """End the subscription of an organization that is gone; a second call changes nothing."""
    subscription = await _subscription(uow, lock=True)
    if subscription is not None and subscription.status != "cancelled":
        subscription.status = "cancelled"
        _changed(uow, subscription)


async def renew_subscription(uow: UnitOfWork) -> bool:
    """Begin the period that now lies in, if the last one has ended; False when another process was faster."""
    subscription = await _subscription(uow, lock=True)
    if subscription is None or subscription.status == "cancelled" or subscription.current_period_end > uow.now:
        return False
    start, end = period_of(uow.now, subscription.billing_cycle)
    subscription.current_period_start, subscription.current_period_end = start, end
    _changed(uow, subscription)
    return True


async def restate_subscription(uow: UnitOfWork) -> int:
    """Publish the organization's subscription again; returns how many rows that was."""
    subscription = await _subscription(uow)
    if subscription is None:
        return 0
    uow.emit(_state(SubscriptionRestated, subscription))
    return 1


async def _subscription(uow: UnitOfWork, *, lock: bool = False) -> Subscription | None:
    statement = select(Subscription).where(Subscription.organization_id == uow.organization_id)
    found: Subscription | None = await uow.first(statement.with_for_update() if lock else statement)
    return found


async def _platforms(uow: UnitOfWork, *, lock: bool) -> Subscription:
    subscription = await _subscription(uow, lock=lock)
    if subscription is None:
        raise NotFoundError("There is no organization with this id, or it has no subscription yet.")
    uow.permit.check("platform", str(subscription.id), {"plan_id": subscription.plan_id})
    return subscription


def _changed(uow: UnitOfWork, subscription: Subscription) -> None:
    subscription.version += 1
    subscription.updated_at = uow.now
    uow.emit(_state(SubscriptionUpdated, subscription))


def _state(kind: type[S], row: Subscription) -> S:
    return kind(
        subscription_id=row.id,
        version=row.version,
        plan_id=row.plan_id,
        status=row.status,
        current_period_start=row.current_period_start,
        current_period_end=row.current_period_end,
        max_users=row.max_users,
        max_agents=row.max_agents,
        max_executions_per_month=row.max_executions_per_month,
        max_storage_gb=row.max_storage_gb,
        max_gateways=row.max_gateways,
    )
