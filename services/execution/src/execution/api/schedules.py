"""Routes of schedules."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from chassis.http import Router, Uow
from chassis.units import door_of, in_unit
from execution.api import VersionNumber, objects_of, wake_ups_of
from execution.domain.schedules import MissedTicks
from execution.tables.schedules import Schedule
from execution.usecases import schedule_ticks, schedules
from resources.bodies import In, Name, Reference
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.patches import PatchIn
from resources.versions import etag

router = Router("schedule", prefix="/v1/schedules")

Cron = Annotated[str, Field(max_length=200, description="Five fields: minute, hour, day, month, weekday.")]
Zone = Annotated[str, Field(max_length=100, description="Such as UTC or Europe/Berlin.")]
Priority = Annotated[int, Field(ge=-100, le=100)]


class CreateScheduleIn(In):
    """What to run, and when; it runs as whoever makes the schedule."""

    name: Name
    agent: Reference | None = None
    orchestration: Reference | None = None
    workspace: Reference | None = None
    version: VersionNumber = "current"
    input: dict[str, Any] = {}
    cron: Cron
    time_zone: Zone = "UTC"
    missed_ticks: MissedTicks = MissedTicks.SKIP
    priority: Priority | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.agent is None) == (self.orchestration is None):
            raise ValueError("name either an agent or an orchestration")
        return self


class UpdateScheduleIn(PatchIn):
    """A merge patch: what is left out stays; an input is replaced as a whole."""

    name: Name = ""
    semver: VersionNumber = "current"
    input: dict[str, Any] = {}
    cron: Cron = ""
    time_zone: Zone = ""
    missed_ticks: MissedTicks = MissedTicks.SKIP
    priority: Priority | None = None


class PauseScheduleIn(In):
    """Why it is paused."""

    reason: Annotated[str, Field(max_length=500)] = ""


class BackfillScheduleIn(In):
    """Which ticks get a run: from `start` to before `end`, both in the past."""

    start: AwareDatetime
    end: AwareDatetime


class ScheduleSummaryOut(BaseModel):
    """A schedule without what its runs are given."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    name: str
    execution_type: str
    definition_id: UUID
    semver: str
    priority: int | None
    cron: str
    time_zone: str
    missed_ticks: str
    created_by: str
    paused_at: datetime | None
    pause_reason: str
    next_tick_at: datetime | None
    last_tick_at: datetime | None
    last_run_id: UUID | None
    last_error_code: str = Field(description="Why the last tick got no run; empty where it did.")
    last_error_detail: str
    created_at: datetime
    updated_at: datetime
    version: int


class ScheduleOut(ScheduleSummaryOut):
    """A schedule."""

    input: dict[str, Any] | None
    masked: list[str] = Field(default=[], description="What this caller may not be shown.")

    @classmethod
    def of(cls, row: Schedule, masked: tuple[str, ...] = ()) -> Self:
        """The public form of a row; whoever may not see what runs are given does not see it here either."""
        out = cls.model_validate(row)
        out.masked = list(masked)
        if "input" in masked:
            out.input = None
        return out


class TickOut(BaseModel):
    """What one tick came to."""

    tick_at: datetime
    run_id: UUID | None
    error_code: str


class TicksOut(BaseModel):
    """What each tick came to, the oldest first."""

    items: list[TickOut]


SCHEDULE_LIST = Listing(schedules.SCHEDULES, ScheduleSummaryOut)


@router.post("", permission="schedule:create", status=201)
async def create_schedule(request: Request, response: Response, body: CreateScheduleIn) -> ScheduleOut:
    """Run an agent or an orchestration by the clock."""
    fields = body.model_dump(exclude={"agent", "orchestration", "version"})
    made = await in_unit(
        request,
        lambda uow: schedules.create_schedule(
            uow,
            kind="agent" if body.agent is not None else "orchestration",
            reference=body.agent or body.orchestration or "",
            semver=body.version,
            **fields,
        ),
    )
    response.headers["ETag"] = etag(made.version)
    response.headers["Location"] = f"/v1/schedules/{made.id}"
    return ScheduleOut.of(made)


@router.get("", permission="schedule:read", **SCHEDULE_LIST.options)
async def list_schedules(uow: Uow, query: Annotated[ListQuery, Depends(SCHEDULE_LIST.query)]) -> Response:
    """The organization's schedules."""
    return SCHEDULE_LIST.answer(await schedules.list_schedules(uow, query))


@router.get("/count", permission="schedule:read")
async def count_schedules(uow: Uow, query: Annotated[ListQuery, Depends(SCHEDULE_LIST.query)]) -> CountOut:
    """How many schedules such a list would show."""
    return CountOut(count=await schedules.count_schedules(uow, query))


@router.get("/{schedule_id}", permission="schedule:read")
async def get_schedule(uow: Uow, response: Response, schedule_id: UUID) -> ScheduleOut:
    """One schedule."""
    found = await schedules.get_schedule(uow, schedule_id)
    response.headers["ETag"] = etag(found.version)
    return ScheduleOut.of(found, uow.permit.masked)


@router.patch("/{schedule_id}", permission="schedule:update")
async def update_schedule(
    uow: Uow, response: Response, schedule_id: UUID, body: UpdateScheduleIn, version: ExpectedVersion
) -> ScheduleOut:
    """Change when it ticks or what its runs get; needs If-Match."""
    changed = await schedules.update_schedule(uow, schedule_id, body.given(), expected_version=version)
    response.headers["ETag"] = etag(changed.version)
    return ScheduleOut.of(changed)


@router.delete("/{schedule_id}", permission="schedule:delete")
async def delete_schedule(uow: Uow, schedule_id: UUID) -> None:
    """Remove a schedule; the runs it started stay."""
    await schedules.delete_schedule(uow, schedule_id)


@router.post("/{schedule_id}/pause", permission="schedule:pause")
async def pause_schedule(uow: Uow, schedule_id: UUID, body: PauseScheduleIn | None = None) -> ScheduleOut:
    """Start nothing until it is resumed."""
    reason = "" if body is None else body.reason
    return ScheduleOut.of(await schedules.pause_schedule(uow, schedule_id, reason=reason))


@router.post("/{schedule_id}/resume", permission="schedule:resume")
async def resume_schedule(uow: Uow, schedule_id: UUID) -> ScheduleOut:
    """Go on with the next tick; what passed meanwhile was not missed."""
    return ScheduleOut.of(await schedules.resume_schedule(uow, schedule_id))


@router.post("/{schedule_id}/backfill", permission="schedule:update")
async def backfill_schedule(request: Request, schedule_id: UUID, body: BackfillScheduleIn) -> TicksOut:
    """Start a run for each tick of a time that is past; a tick that has had one for less than a day gets no other."""
    rules_of, objects = door_of(request).rules.of, objects_of(request)
    ticks = await in_unit(
        request,
        lambda uow: schedule_ticks.backfill_schedule(
            uow, schedule_id, start=body.start, end=body.end, rules_of=rules_of, objects=objects
        ),
    )
    wake_ups_of(request).queued()
    return TicksOut(items=[TickOut(**tick._asdict()) for tick in ticks])
