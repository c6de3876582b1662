"""What was used: the ledger, its sums by day, and the monthly record."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables import Row
from chassis.db import timestamptz


class UsageEvent(Row):
    """One attempt at a step, booked once: its id is the attempt's own, so a second booking finds it taken."""

    __tablename__ = "usage_event"
    __table_args__ = (Index(None, "organization_id", "run_id", "id"), Index(None, "organization_id", "id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    workspace_id: Mapped[UUID]
    run_id: Mapped[UUID]
    owner_id: Mapped[str]
    node: Mapped[str]
    attempt: Mapped[int]
    agent_id: Mapped[UUID | None]
    agent_semver: Mapped[str]
    provider: Mapped[str]
    model_name: Mapped[str]
    succeeded: Mapped[bool]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)
    price_version: Mapped[str]
    occurred_at: Mapped[datetime] = mapped_column(timestamptz())
    booked_at: Mapped[datetime] = mapped_column(timestamptz())


class UsageDay(Row):
    """The sums of one UTC day by agent, model and owner, added to in the transaction that books."""

    __tablename__ = "usage_day"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID] = mapped_column(primary_key=True)
    """The nil UUID stands for steps without an agent."""
    provider: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(primary_key=True)
    """Whose runs they were; a role that may see its own usage only sees its own."""
    steps: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)


class UsageRecord(Row):
    """One UTC month of an organization."""

    __tablename__ = "usage_record"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(timestamptz(), primary_key=True)
    period_end: Mapped[datetime] = mapped_column(timestamptz())
    id: Mapped[UUID]
    users_count: Mapped[int]
    agents_count: Mapped[int]
    executions_count: Mapped[int] = mapped_column(BigInteger)
    storage_bytes: Mapped[int] = mapped_column(BigInteger)
    gateways_count: Mapped[int]
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]


class CountedThing(Row):
    """A user, agent or gateway another service has: what the monthly record counts."""

    __tablename__ = "counted_thing"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    noun: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    alive: Mapped[bool]
    version: Mapped[int]


class CountedRun(Row):
    """A run that the monthly record has counted: a fact that comes twice counts once."""

    __tablename__ = "counted_run"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
