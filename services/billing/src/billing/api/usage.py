"""Routes of what was used and what it cost."""

from datetime import date, datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from billing.tables.usage import UsageEvent, UsageRecord
from billing.usecases import usage
from chassis.http import Router, Uow

router = Router("usage", prefix="/v1")


class UsageGroupOut(BaseModel):
    """The sums of one agent, model, day or of the organization."""

    key: str = Field(description="The agent's id, the model's name, the day, or the organization's id.")
    steps: int
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int


class UsageOut(BaseModel):
    """Sums over a period, dearest first (days in order)."""

    group_by: str
    first_day: date
    last_day: date
    items: list[UsageGroupOut]
    total_cost_usd_micros: int


class UsageRecordOut(BaseModel):
    """One UTC month."""

    id: UUID
    organization_id: UUID
    period_start: datetime
    period_end: datetime
    users_count: int
    agents_count: int
    executions_count: int
    storage_bytes: int
    gateways_count: int
    cost_usd_micros: int

    @classmethod
    def of(cls, row: UsageRecord) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class UsageRecordsOut(BaseModel):
    """Months, newest first."""

    items: list[UsageRecordOut]
    next_cursor: str | None = None


class UsageEventOut(BaseModel):
    """One attempt at a step, as it was booked."""

    id: UUID
    run_id: UUID
    workspace_id: UUID
    node: str
    attempt: int
    agent_id: UUID | None
    agent_semver: str
    provider: str
    model_name: str
    succeeded: bool
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int
    price_version: str
    occurred_at: datetime
    booked_at: datetime

    @classmethod
    def of(cls, row: UsageEvent) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class UsageEventsOut(BaseModel):
    """A page of booked attempts in the order of their making."""

    items: list[UsageEventOut]
    next_cursor: str | None


@router.get("/usage", permission="usage:read")
async def get_usage(
    uow: Uow,
    group_by: str = "organization",
    first_day: Annotated[date | None, Query(alias="from")] = None,
    last_day: Annotated[date | None, Query(alias="to")] = None,
) -> UsageOut:
    """What was used between two UTC days (the last 30, if none are given), by organization, agent, model or day."""
    last = last_day or uow.now.date()
    first = first_day or last - timedelta(days=29)
    groups = await usage.get_usage(uow, group_by=group_by, first_day=first, last_day=last)
    return UsageOut(
        group_by=group_by,
        first_day=first,
        last_day=last,
        items=[UsageGroupOut(**group) for group in groups],
        total_cost_usd_micros=sum(group["cost_usd_micros"] for group in groups),
    )


@router.get("/usage-records", permission="usage:read")
async def list_usage_records(uow: Uow) -> UsageRecordsOut:
    """The organization's months."""
    return UsageRecordsOut(items=[UsageRecordOut.of(row) for row in await usage.list_usage_records(uow)])


@router.get("/usage-events", permission="usage:read")
async def list_usage_events(
    uow: Uow, run_id: UUID, limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: UUID | None = None
) -> UsageEventsOut:
    """What one run used, attempt by attempt."""
    rows = await usage.list_usage_events(uow, run_id=run_id, limit=limit, after=cursor)
    items = [UsageEventOut.of(row) for row in rows[:limit]]
    return UsageEventsOut(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)
