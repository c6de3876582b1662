"""Schedules: made, changed, paused. Their ticks are in `schedule_ticks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import ConflictError, LimitExceededError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import ScheduleCreated, ScheduleDeleted, SchedulePaused, ScheduleResumed, ScheduleUpdated
from execution.domain.schedules import Clockwork, MissedTicks
from execution.tables.schedules import Schedule
from execution.usecases.run_subjects import Kind, check_input, find_subject
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch, told, touch
from resources.versions import require_version

SCHEDULES = Resource(
    Schedule,
    filters=("id", "name", "workspace_id", "execution_type", "definition_id", "created_by", "created_at", "paused_at"),
    sorts=("created_at", "updated_at", "name"),
    search=("name",),
)
list_schedules = lister(SCHEDULES)
count_schedules = counter(SCHEDULES)
MAX_SCHEDULES = 1_000
TAKEN = "A schedule of this name is already in this workspace."


async def create_schedule(
    uow: UnitOfWork,
    *,
    name: str,
    kind: Kind,
    reference: str,
    workspace: str | None,
    semver: str,
    input: Any,
    priority: int | None,
    cron: str,
    time_zone: str,
    missed_ticks: MissedTicks,
) -> Schedule:
    """Run something by the clock, as the caller. InvalidError for a cron expression or input that does not fit.

    Each tick's run is decided on when it comes, with the roles the caller has then.
    """
    clockwork = Clockwork(cron, time_zone)
    clockwork.require_valid()
    await _require_room(uow)
    subject = await find_subject(uow, kind, reference, workspace=workspace, semver=semver)
    check_input(subject, input)
    schedule = Schedule(
        id=new_id(),
        organization_id=uow.organization_id,
        workspace_id=subject.workspace.id,
        name=name,
        execution_type=kind,
        definition_id=subject.definition.id,
        semver=semver,
        input=input,
        priority=priority,
        cron=cron,
        time_zone=time_zone,
        missed_ticks=missed_ticks,
        caller=uow.caller.to_json(),
        created_by=uow.caller.owner_id,
        pause_reason="",
        next_tick_at=clockwork.next_after(uow.now),
        last_error_code="",
        last_error_detail="",
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(schedule, conflict=TAKEN)
    uow.emit(ScheduleCreated.of(schedule))
    return schedule


async def get_schedule(uow: UnitOfWork, schedule_id: UUID) -> Schedule:
    """One schedule."""
    return await uow.get(Schedule, schedule_id)


async def update_schedule(
    uow: UnitOfWork, schedule_id: UUID, changes: Mapping[str, Any], *, expected_version: int | None
) -> Schedule:
    """Change when it ticks or what its runs get; another clock counts from now on."""
    schedule = await uow.get(Schedule, schedule_id, lock=True)
    require_version(schedule.version, expected_version)
    changed = apply_patch(uow, schedule, {name: value for name, value in changes.items() if name != "input"})
    if "input" in changes and changes["input"] != schedule.input:
        changed["input"] = (None, None)
        schedule.input = changes["input"]  # replaced as a whole: half of an old input fits no new schema
        if len(changed) == 1:
            touch(uow, schedule)
    if not changed:
        return schedule
    clockwork = Clockwork(schedule.cron, schedule.time_zone)
    clockwork.require_valid()
    kind: Kind = "agent" if schedule.execution_type == "agent" else "orchestration"
    subject = await find_subject(uow, kind, str(schedule.definition_id), workspace=None, semver=schedule.semver)
    check_input(subject, schedule.input)
    if schedule.paused_at is None and {"cron", "time_zone"} & changed.keys():
        schedule.next_tick_at = clockwork.next_after(uow.now)
    await uow.add(schedule, conflict=TAKEN)
    uow.emit(ScheduleUpdated.of(schedule, changes=told(changed)))
    return schedule


async def delete_schedule(uow: UnitOfWork, schedule_id: UUID) -> None:
    """Remove a schedule; the runs it started stay."""
    schedule = await uow.get(Schedule, schedule_id, lock=True)
    await uow.delete(schedule)
    uow.emit(ScheduleDeleted.of(schedule))


async def pause_schedule(uow: UnitOfWork, schedule_id: UUID, *, reason: str) -> Schedule:
    """Start nothing until it is resumed; pausing it again changes nothing."""
    schedule = await uow.get(Schedule, schedule_id, lock=True)
    _pause(uow, schedule, reason)
    return schedule


async def resume_schedule(uow: UnitOfWork, schedule_id: UUID) -> Schedule:
    """Go on with the next tick: what passed meanwhile was not missed. Resuming it again changes nothing.

    ConflictError `owner_gone` for one whose maker may not act any more.
    """
    schedule = await uow.get(Schedule, schedule_id, lock=True)
    if schedule.paused_at is None:
        return schedule
    if schedule.pause_reason == OWNER_GONE:
        raise ConflictError("Whoever made this schedule may not act any more: make a new one.", code=OWNER_GONE)
    schedule.paused_at, schedule.pause_reason = None, ""
    schedule.next_tick_at = Clockwork(schedule.cron, schedule.time_zone).next_after(uow.now)
    touch(uow, schedule)
    uow.emit(ScheduleResumed.of(schedule))
    return schedule


OWNER_GONE = "owner_gone"


async def pause_schedules_of(uow: UnitOfWork, owner_id: str) -> int:
    """Pause everything that somebody made who may not act any more; returns how many."""
    mine = select(Schedule).where(Schedule.organization_id == uow.organization_id, Schedule.created_by == owner_id)
    found = await uow.all(mine.order_by(Schedule.id).limit(MAX_SCHEDULES).with_for_update())
    return sum(_pause(uow, schedule, OWNER_GONE) for schedule in found)


async def give_role(uow: UnitOfWork, user_id: UUID, role: str) -> None:
    """From now on what this user's schedules start is decided on with this role."""
    mine = select(Schedule).where(Schedule.organization_id == uow.organization_id, Schedule.created_by == str(user_id))
    for schedule in await uow.all(mine.order_by(Schedule.id).limit(MAX_SCHEDULES).with_for_update()):
        schedule.caller = {**schedule.caller, "roles": [role]}


def _pause(uow: UnitOfWork, schedule: Schedule, reason: str) -> bool:
    if schedule.paused_at is not None and (reason != OWNER_GONE or schedule.pause_reason == OWNER_GONE):
        return False
    schedule.paused_at, schedule.pause_reason, schedule.next_tick_at = uow.now, reason, None
    touch(uow, schedule)
    uow.emit(SchedulePaused.of(schedule))
    return True


async def _require_room(uow: UnitOfWork) -> None:
    """Two that arrive together must not both take the last place."""
    name = f"schedule/{uow.organization_id}"
    await uow.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    count = await uow.first(select(func.count()).where(Schedule.organization_id == uow.organization_id))
    if count >= MAX_SCHEDULES:
        raise LimitExceededError(f"An organization may have {MAX_SCHEDULES} schedules.", code="too_many_schedules")
