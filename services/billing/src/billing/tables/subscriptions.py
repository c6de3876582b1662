"""The subscription of an organization: exactly one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables import Row
from chassis.db import timestamptz


class Subscription(Row):
    """What an organization may use, and until when."""

    __tablename__ = "subscription"
    __table_args__ = (UniqueConstraint("organization_id"), Index(None, "current_period_end"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    plan_id: Mapped[str]
    status: Mapped[str]
    billing_cycle: Mapped[str]
    current_period_start: Mapped[datetime] = mapped_column(timestamptz())
    current_period_end: Mapped[datetime] = mapped_column(timestamptz())
    stripe_subscription_id: Mapped[str | None]
    max_users: Mapped[int]
    max_agents: Mapped[int]
    max_executions_per_month: Mapped[int]
    max_storage_gb: Mapped[int]
    max_gateways: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]
