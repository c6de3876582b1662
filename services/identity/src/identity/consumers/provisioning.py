"""The other services tell when they have made what a new organization needs."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.billing import SubscriptionCreated, SubscriptionRestated, SubscriptionState, SubscriptionUpdated
from contracts.gateway import GatewayCreated, GatewayRestated, GatewayState
from identity.usecases import organizations, subscriptions
from spine.facts import on


@on(SubscriptionCreated, SubscriptionUpdated, SubscriptionRestated)
async def note_subscription(uow: UnitOfWork, fact: SubscriptionState) -> None:
    """Its plan and limits hold here from now on."""
    if await subscriptions.project_subscription(uow, fact):
        await organizations.follow_plan(uow, fact.plan_id)
    await organizations.note_provisioned(uow, part="subscription")


@on(GatewayCreated, GatewayRestated)
async def note_gateway(uow: UnitOfWork, _: GatewayState) -> None:
    """Its default gateway is there."""
    await organizations.note_provisioned(uow, part="gateway")
