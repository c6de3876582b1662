"""Subscriptions here are a projection of billing's: how many users an organization may have."""

from __future__ import annotations

from sqlalchemy import select

from chassis.uow import UnitOfWork
from contracts.billing import SubscriptionState
from identity.tables.subscriptions import SubscriptionLimit
from spine.facts import project

FREE_TIER_USERS = 10
"""What holds until the organization's subscription is known here."""


async def project_subscription(uow: UnitOfWork, fact: SubscriptionState) -> bool:
    """Remember a subscription as billing has it now; False for an older fact than the one that is known."""
    key = {"organization_id": uow.organization_id}
    return await project(uow, SubscriptionLimit, key, fact.version, {"max_users": fact.max_users})


async def read_max_users(uow: UnitOfWork) -> int:
    """How many users the organization may have."""
    own = SubscriptionLimit.organization_id == uow.organization_id
    limit: int | None = await uow.first(select(SubscriptionLimit.max_users).where(own))
    return FREE_TIER_USERS if limit is None else limit
