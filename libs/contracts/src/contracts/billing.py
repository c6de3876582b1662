"""Facts of billing: subscriptions and their limits."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from contracts.envelope import Fact


class SubscriptionState(Fact):
    """The limits an organization has paid for; services that insert the counted rows obey them."""

    subject_field: ClassVar = "subscription_id"

    subscription_id: UUID
    version: int
    plan_id: str
    status: str
    """active, cancelled or past_due."""
    current_period_start: datetime
    current_period_end: datetime
    max_users: int
    max_agents: int
    max_executions_per_month: int
    max_storage_gb: int
    max_gateways: int


class SubscriptionCreated(SubscriptionState):
    """An organization's subscription began."""

    type: ClassVar = "billing.subscription.created.v1"


class SubscriptionUpdated(SubscriptionState):
    """A subscription's plan or limits changed."""

    type: ClassVar = "billing.subscription.updated.v1"


class SubscriptionRestated(SubscriptionState):
    """A subscription's current row, published again for a projection."""

    type: ClassVar = "billing.subscription.restated.v1"
