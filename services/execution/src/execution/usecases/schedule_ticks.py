"""A schedule's ticks: each starts one run, as whoever made the schedule; a refusal is kept, and the clock goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from chassis.caller import Caller
from chassis.errors import InvalidError, RefusalError
from chassis.objects import Objects
from chassis.rules import Rules
from chassis.telemetry import current_traceparent, new_traceparent
from chassis.uow import UnitOfWork
from contracts.execution import ScheduleTicked
from execution.domain.schedules import MAX_TICKS, Clockwork, MissedTicks, due_ticks
from execution.tables.schedules import Schedule
from execution.usecases.runs import RunRequest, start_run
from execution.usecases.starts import start_as

SCHEDULES_AT_ONCE = 100
RulesOf = Callable[[UUID], Awaitable[Rules]]


class Ticked(NamedTuple):
    """What one tick came to."""

    tick_at: datetime
    run_id: UUID | None
    error_code: str = ""


class Due(NamedTuple):
    """A schedule whose moment has come."""

    organization_id: UUID
    id: UUID


async def find_due(uow: UnitOfWork) -> list[Due]:
    """Schedules of all organizations whose moment has come, the longest overdue first."""
    rows = await uow.fetch("select organization_id, id from due_schedules($1)", SCHEDULES_AT_ONCE)
    return [Due(row["organization_id"], row["id"]) for row in rows]


async def tick_schedule(uow: UnitOfWork, schedule_id: UUID, *, rules_of: RulesOf, objects: Objects) -> list[Ticked]:
    """Start what is due, in the transaction that moves the clock on; nothing where another process is doing it."""
    locked = select(Schedule).where(Schedule.id == schedule_id).with_for_update(skip_locked=True)
    schedule: Schedule | None = await uow.first(locked)
    if schedule is None or schedule.next_tick_at is None or schedule.next_tick_at > uow.now:
        return []
    clockwork = Clockwork(schedule.cron, schedule.time_zone)
    ticks = due_ticks(clockwork, schedule.next_tick_at, uow.now, MissedTicks(schedule.missed_ticks))
    done = await _start(uow, schedule, ticks, rules_of=rules_of, objects=objects)
    schedule = await uow.get(Schedule, schedule_id)  # a refused run made the session forget its rows
    has_more = len(ticks) == MAX_TICKS
    schedule.next_tick_at = clockwork.next_after(ticks[-1] if has_more else uow.now)
    if done:
        schedule.last_tick_at, schedule.last_run_id = done[-1].tick_at, done[-1].run_id or schedule.last_run_id
    return done


async def backfill_schedule(
    uow: UnitOfWork, schedule_id: UUID, *, start: datetime, end: datetime, rules_of: RulesOf, objects: Objects
) -> list[Ticked]:
    """Start a run for each tick from `start` to before `end`, 100 at most; a tick that has one gets no other.

    A run is known by its tick for a day; older ones are started anew.
    """
    schedule = await uow.get(Schedule, schedule_id, lock=True)
    if end > uow.now:
        raise InvalidError("A backfill ends in the past: what is to come, comes by itself.", code="not_in_the_past")
    ticks = Clockwork(schedule.cron, schedule.time_zone).between(start, end)
    if len(ticks) > MAX_TICKS:
        raise InvalidError(f"These are more than {MAX_TICKS} ticks: ask for fewer at once.", code="too_many_ticks")
    return await _start(uow, schedule, ticks, rules_of=rules_of, objects=objects)


async def _start(
    uow: UnitOfWork, schedule: Schedule, ticks: list[datetime], *, rules_of: RulesOf, objects: Objects
) -> list[Ticked]:  # fmt: skip
    schedule_id, workspace_id = schedule.id, schedule.workspace_id
    asked = [(_request(schedule, tick), f"schedule:{schedule_id}:{tick.isoformat()}") for tick in ticks]
    acting = owner_of(schedule)
    rules = await rules_of(uow.organization_id)
    done: list[Ticked] = []
    for (request, key), tick in zip(asked, ticks, strict=True):

        async def start(request: RunRequest = request, key: str = key) -> UUID:
            return (await start_run(uow, request, rules=rules, objects=objects, idempotency_key=key)).id

        started = await start_as(uow, acting, start)
        refusal = started if isinstance(started, RefusalError) else None
        ticked = Ticked(tick, started) if isinstance(started, UUID) else Ticked(tick, None, started.code)
        uow.emit(ScheduleTicked(schedule_id=schedule_id, workspace_id=workspace_id, **ticked._asdict()))
        row = await uow.get(Schedule, schedule_id)
        row.last_error_code = ticked.error_code
        row.last_error_detail = "" if refusal is None else refusal.detail[:500]
        done.append(ticked)
    return done


def owner_of(schedule: Schedule) -> Caller:
    """Whoever made the schedule, as they may act now."""
    traceparent = current_traceparent() or new_traceparent()
    return Caller.from_json(
        schedule.organization_id, schedule.caller, traceparent=traceparent, correlation_id=f"schedule:{schedule.id}"
    )


def _request(schedule: Schedule, tick: datetime) -> RunRequest:
    return RunRequest(
        kind="agent" if schedule.execution_type == "agent" else "orchestration",
        reference=str(schedule.definition_id),
        input=schedule.input,
        semver=schedule.semver,
        trigger_type="scheduled",
        priority=schedule.priority,
        schedule_id=schedule.id,
        tick_at=tick,
    )
