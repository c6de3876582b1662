"""Usage: every attempt at a step is booked once; sums are kept as they grow, so that reading them is cheap for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Update, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute

from billing.domain.plans import month_of
from billing.tables.usage import CountedRun, CountedThing, UsageDay, UsageEvent, UsageRecord
from chassis.errors import InvalidError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import RunQueued, StepCompleted, StepEnded

NIL = UUID(int=0)
MAX_GROUPS = 1000
GROUPS: dict[str, Any] = {
    "organization": UsageDay.organization_id,
    "agent": UsageDay.agent_id,
    "model": UsageDay.model_name,
    "day": UsageDay.day,
}
_SUMS = ("steps", "input_tokens", "output_tokens", "cost_usd_micros")


async def book_steps(uow: UnitOfWork, facts: Sequence[StepEnded]) -> int:
    """Book the organization's attempts that are not booked yet, and add them to the sums; returns how many were new."""
    if not facts:
        return 0
    rows = [_event(uow, fact) for fact in {fact.step_id: fact for fact in facts}.values()]
    statement = insert(UsageEvent).values(rows).on_conflict_do_nothing().returning(UsageEvent.id)
    new = set(await uow.all(statement))
    fresh = [row for row in rows if row["id"] in new]
    if fresh:
        await _add_to_days(uow, fresh)
        await _add_to_months(uow, fresh)
    return len(fresh)


async def count_runs(uow: UnitOfWork, runs: Sequence[tuple[RunQueued, datetime]]) -> None:
    """Count the organization's runs in the month each was accepted in."""
    times = {fact.run_id: time for fact, time in runs}
    statement = (
        insert(CountedRun)
        .values([{"organization_id": uow.organization_id, "id": run_id} for run_id in times])
        .on_conflict_do_nothing()
        .returning(CountedRun.id)
    )
    months: dict[datetime, int] = defaultdict(int)
    for run_id in await uow.all(statement):
        months[month_of(times[run_id])[0]] += 1
    for month, count in months.items():
        await _add_to_month(uow, month, executions_count=count)


async def count_thing(uow: UnitOfWork, *, noun: str, thing_id: UUID, alive: bool, version: int) -> None:
    """Note that a user, agent or gateway exists, or no more, and bring this month's counts up to date."""
    fresh = insert(CountedThing).values(
        organization_id=uow.organization_id, noun=noun, id=thing_id, alive=alive, version=version
    )
    await uow.execute(
        fresh.on_conflict_do_update(
            index_elements=["organization_id", "noun", "id"],
            set_={"alive": fresh.excluded.alive, "version": fresh.excluded.version},
            where=CountedThing.version < fresh.excluded.version,
        )
    )
    counts = await _counts(uow)
    await _add_to_month(uow, month_of(uow.now)[0])
    await uow.execute(_month(uow, month_of(uow.now)[0]).values(counts))


async def get_usage(uow: UnitOfWork, *, group_by: str, first_day: date, last_day: date) -> list[dict[str, Any]]:
    """The sums of some days by organization, agent, model or day: `{key, steps, input_tokens, ...}`, dearest first."""
    if group_by not in GROUPS:
        raise InvalidError(f"Group by one of {', '.join(GROUPS)}.", code="unknown_group")
    if last_day < first_day or last_day - first_day > timedelta(days=400):
        raise InvalidError("Ask for at most 400 days, the first one first.", code="invalid_period")
    key = GROUPS[group_by].label("key")
    sums = [func.sum(getattr(UsageDay, name)).label(name) for name in _SUMS]
    statement = (
        select(key, *sums)
        .where(
            UsageDay.organization_id == uow.organization_id,
            UsageDay.day.between(first_day, last_day),
            *_own(uow, UsageDay.owner_id),
        )
        .group_by(key)
        .order_by(key if group_by == "day" else func.sum(UsageDay.cost_usd_micros).desc())
        .limit(MAX_GROUPS)
    )
    return [
        {"key": "" if row[0] == NIL else str(row[0]), **{name: int(row[i + 1]) for i, name in enumerate(_SUMS)}}
        for row in await uow.execute(statement)
    ]


async def list_usage_records(uow: UnitOfWork) -> Sequence[UsageRecord]:
    """The organization's months, newest first, ten years at most."""
    statement = select(UsageRecord).where(UsageRecord.organization_id == uow.organization_id)
    records: Sequence[UsageRecord] = await uow.all(statement.order_by(UsageRecord.period_start.desc()).limit(120))
    return records


async def list_usage_events(
    uow: UnitOfWork, *, run_id: UUID, limit: int, after: UUID | None
) -> Sequence[UsageEvent]:  # fmt: skip
    """A run's attempts in the order of their making, one more than `limit` where there are more."""
    statement = select(UsageEvent).where(
        UsageEvent.organization_id == uow.organization_id,
        UsageEvent.run_id == run_id,
        *_own(uow, UsageEvent.owner_id),
    )
    if after is not None:
        statement = statement.where(UsageEvent.id > after)
    events: Sequence[UsageEvent] = await uow.all(statement.order_by(UsageEvent.id).limit(limit + 1))
    return events


def _own(uow: UnitOfWork, owner_id: InstrumentedAttribute[str]) -> list[ColumnElement[bool]]:
    return [owner_id == uow.caller.owner_id] if uow.permit.own_only else []


def _event(uow: UnitOfWork, fact: StepEnded) -> dict[str, Any]:
    return {
        "id": fact.step_id,
        "organization_id": uow.organization_id,
        "workspace_id": fact.workspace_id,
        "run_id": fact.run_id,
        "owner_id": fact.owner_id,
        "node": fact.node,
        "attempt": fact.attempt,
        "agent_id": fact.agent_id,
        "agent_semver": fact.agent_semver,
        "provider": fact.provider,
        "model_name": fact.model_name,
        "succeeded": isinstance(fact, StepCompleted),
        "input_tokens": fact.input_tokens,
        "output_tokens": fact.output_tokens,
        "cost_usd_micros": fact.cost_usd_micros,
        "price_version": fact.price_version,
        "occurred_at": fact.ended_at,
        "booked_at": uow.now,
    }


async def _add_to_days(uow: UnitOfWork, events: Sequence[dict[str, Any]]) -> None:
    sums: dict[tuple[date, UUID, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for event in events:
        day = event["occurred_at"].astimezone(UTC).date()
        agent_id = event["agent_id"] or NIL
        total = sums[day, agent_id, event["provider"], event["model_name"], event["owner_id"]]
        for place, value in enumerate((1, event["input_tokens"], event["output_tokens"], event["cost_usd_micros"])):
            total[place] += value
    keys = ("day", "agent_id", "provider", "model_name", "owner_id")
    rows = [
        {
            "organization_id": uow.organization_id,
            **dict(zip(keys, key, strict=True)),
            **dict(zip(_SUMS, total, strict=True)),
        }
        for key, total in sorted(sums.items())  # one order of locks, whoever books
    ]
    fresh = insert(UsageDay).values(rows)
    await uow.execute(
        fresh.on_conflict_do_update(
            index_elements=["organization_id", *keys],
            set_={name: getattr(UsageDay, name) + fresh.excluded[name] for name in _SUMS},
        )
    )


async def _add_to_months(uow: UnitOfWork, events: Sequence[dict[str, Any]]) -> None:
    months: dict[datetime, int] = defaultdict(int)
    for event in events:
        months[month_of(event["occurred_at"])[0]] += event["cost_usd_micros"]
    for month, cost in sorted(months.items()):
        await _add_to_month(uow, month, cost_usd_micros=cost)


async def _add_to_month(uow: UnitOfWork, month: datetime, **amounts: int) -> None:
    """Add to a month's record; a month's first record takes over what exists."""
    added = {name: getattr(UsageRecord, name) + amount for name, amount in amounts.items()}
    touched = _month(uow, month).values(added or {"period_start": month}).returning(UsageRecord.id)
    if await uow.all(touched):
        return
    zero = dict.fromkeys(("executions_count", "storage_bytes", "cost_usd_micros"), 0)
    row = {**zero, **await _counts(uow), **amounts, "organization_id": uow.organization_id, "period_start": month}
    await uow.execute(insert(UsageRecord).values(**row, id=new_id(), period_end=month_of(month)[1]))


def _month(uow: UnitOfWork, month: datetime) -> Update:
    return update(UsageRecord).where(
        UsageRecord.organization_id == uow.organization_id, UsageRecord.period_start == month
    )


async def _counts(uow: UnitOfWork) -> dict[str, int]:
    statement = (
        select(CountedThing.noun, func.count())
        .where(CountedThing.organization_id == uow.organization_id, CountedThing.alive)
        .group_by(CountedThing.noun)
    )
    found = {row[0]: int(row[1]) for row in await uow.execute(statement)}
    return {f"{noun}s_count": found.get(noun, 0) for noun in ("user", "agent", "gateway")}
