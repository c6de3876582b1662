"""Subscriptions as billing publishes them, and what has been used of their monthly limit."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class Subscription(Stamped, Row):
    """An organization's limits; `version` is that of billing's row."""

    __tablename__ = "subscription"
    __table_args__ = (Index("subscription_organization_id_key", "organization_id", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_id: Mapped[str]
    status: Mapped[str]
    current_period_start: Mapped[datetime]
    current_period_end: Mapped[datetime]
    max_agents: Mapped[int]
    max_executions_per_month: Mapped[int]


class RunMonth(Row):
    """How many runs an organization has started in a month (UTC)."""

    __tablename__ = "run_month"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
