"""Reading what was used. Sums are kept as they grow, so that reading them costs the same for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import func, select

from billing.tables.usage import UsageDay, UsageEvent
from billing.usecases.booking import NIL
from chassis.errors import InvalidError
from chassis.uow import UnitOfWork
from resources.listing import Resource, lister

MAX_GROUPS = 1000
MAX_DAYS = 400
GROUPS: dict[str, Any] = {
    "organization": UsageDay.organization_id,
    "agent": UsageDay.agent_id,
    "model": UsageDay.model_name,
    "day": UsageDay.day,
}
_SUMS = ("steps", "input_tokens", "output_tokens", "cost_usd_micros")

USAGE_EVENTS = Resource(
    UsageEvent,
    filters=("run_id", "workspace_id", "agent_id", "provider", "model_name", "succeeded", "occurred_at"),
    sorts=(),
    default_sort="id",
    own="owner_id",
)
list_usage_events = lister(USAGE_EVENTS)


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over some days."""

    groups: list[dict[str, Any]]
    """`{key, steps, input_tokens, output_tokens, cost_usd_micros}`: the dearest first, days in order."""
    total_cost_usd_micros: int
    """Of all groups, those above the limit included."""


async def get_usage(uow: UnitOfWork, *, group_by: str, first_day: date, last_day: date) -> Usage:
    """What some days cost by organization, agent, model or day; a right to one's own shows the sums of one's own."""
    if group_by not in GROUPS:
        raise InvalidError(f"Group by one of {', '.join(GROUPS)}.", code="unknown_group")
    if not timedelta(0) <= last_day - first_day < timedelta(days=MAX_DAYS):
        raise InvalidError(f"Ask for at most {MAX_DAYS} days, the first one first.", code="invalid_period")
    key = GROUPS[group_by].label("key")
    cost = func.sum(UsageDay.cost_usd_micros)
    sums = [func.sum(getattr(UsageDay, name)).label(name) for name in _SUMS]
    statement = (
        select(key, *sums, func.sum(cost).over())
        .where(UsageDay.organization_id == uow.organization_id, UsageDay.day.between(first_day, last_day))
        .group_by(key)
        .order_by(*((key,) if group_by == "day" else (cost.desc(), key)))
        .limit(MAX_GROUPS)
    )
    if uow.permit.own_only:
        statement = statement.where(UsageDay.owner_id == uow.permit.owner_id)
    rows = await uow.execute(statement)
    return Usage([_group(row) for row in rows], int(rows[0][-1]) if rows else 0)


def _group(row: Any) -> dict[str, Any]:
    sums = {name: int(value) for name, value in zip(_SUMS, row[1:], strict=False)}
    return {"key": "" if row[0] == NIL else str(row[0]), **sums}
