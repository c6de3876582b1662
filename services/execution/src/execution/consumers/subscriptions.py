"""Subscriptions begun and changed in billing."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.billing import SubscriptionCreated, SubscriptionRestated, SubscriptionState, SubscriptionUpdated
from execution.usecases import subscriptions
from spine.facts import on


@on(SubscriptionCreated, SubscriptionUpdated, SubscriptionRestated)
async def project_subscription(uow: UnitOfWork, fact: SubscriptionState) -> None:
    """How many agents and runs there may be is what billing says."""
    await subscriptions.project_subscription(uow, fact)
