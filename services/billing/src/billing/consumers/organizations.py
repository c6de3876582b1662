"""A new organization gets its subscription; one that is gone ends it."""

from __future__ import annotations

from billing.usecases import subscriptions
from chassis.uow import UnitOfWork
from contracts.identity import OrganizationCreated, OrganizationDeleted, OrganizationRestated
from spine.facts import on


@on(OrganizationCreated, OrganizationRestated)
async def create_subscription(uow: UnitOfWork, fact: OrganizationCreated | OrganizationRestated) -> None:
    """The subscription of the plan it was made with; a restated organization that has one keeps it."""
    await subscriptions.create_subscription(uow, plan_id=fact.plan_tier)


@on(OrganizationDeleted)
async def cancel_subscription(uow: UnitOfWork, fact: OrganizationDeleted) -> None:
    """Nothing is allowed any more, whatever the plan was."""
    del fact
    await subscriptions.cancel_subscription(uow)
