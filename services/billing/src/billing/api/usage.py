"""Routes of what was used and what it cost."""

from datetime import date, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import BaseModel, Field

from billing.usecases import months, usage
from chassis.http import Router, Uow
from resources.http import Listing
from resources.listing import ListQuery

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
    updated_at: datetime


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


RECORD_LIST = Listing(months.USAGE_RECORDS, UsageRecordOut)
EVENT_LIST = Listing(usage.USAGE_EVENTS, UsageEventOut)


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
    found = await usage.get_usage(uow, group_by=group_by, first_day=first, last_day=last)
    return UsageOut(
        group_by=group_by,
        first_day=first,
        last_day=last,
        items=[UsageGroupOut(**group) for group in found.groups],
        total_cost_usd_micros=found.total_cost_usd_micros,
    )


@router.get("/usage-records", permission="usage:read", **RECORD_LIST.options)
async def list_usage_records(uow: Uow, query: Annotated[ListQuery, Depends(RECORD_LIST.query)]) -> Response:
    """The organization's months, newest first."""
    return RECORD_LIST.answer(await months.list_usage_records(uow, query))


@router.get("/usage-events", permission="usage:read", **EVENT_LIST.options)
async def list_usage_events(uow: Uow, query: Annotated[ListQuery, Depends(EVENT_LIST.query)]) -> Response:
    """What was booked, attempt by attempt in the order of their making: of one run by `run_id`."""
    return EVENT_LIST.answer(await usage.list_usage_events(uow, query))
