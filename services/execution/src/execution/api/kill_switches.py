"""Routes of kill switches."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit
from execution.api import wake_ups_of
from execution.domain.kills import KillScope
from execution.tables.kill_switches import KillSwitch
from execution.usecases import kill_switches
from execution.usecases.kill_switches import KillReport
from resources.bodies import In
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("kill_switch", prefix="/v1/kill-switches")


class EngageKillSwitchIn(In):
    """What to stop everything of; `target_id` may be left out for the organization itself."""

    scope: KillScope
    target_id: UUID | None = None
    reason: Annotated[str, Field(max_length=450)] = ""


class KillSwitchSummaryOut(BaseModel):
    """A switch, without what it has stopped."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    scope: str
    target_id: UUID
    reason: str
    created_by: str
    created_at: datetime
    released_at: datetime | None = Field(description="Null while it is engaged.")
    released_by: str | None


class KillSwitchOut(KillSwitchSummaryOut):
    """A switch and what it has stopped so far."""

    stopped: int = Field(description="Runs that have ended by it.")
    stopping: int = Field(description="Runs whose worker has still to let go: within a second.")
    calls_left: list[UUID] = Field(description="Steps whose call was under way when it was engaged; at most 100.")

    @classmethod
    def of(cls, row: KillSwitch, report: KillReport) -> Self:
        """The public form of a row, with its report."""
        return cls(**KillSwitchSummaryOut.model_validate(row).model_dump(), **report._asdict())


KILL_SWITCH_LIST = Listing(kill_switches.KILL_SWITCHES, KillSwitchSummaryOut)


@router.post("", permission="kill_switch:engage", status=201)
async def engage_kill_switch(request: Request, response: Response, body: EngageKillSwitchIn) -> KillSwitchOut:
    """Stop everything in the scope within a second, and let nothing of it start; engaging it again changes nothing."""
    engaged = await in_unit(request, lambda uow: kill_switches.engage_kill_switch(uow, **dict(body)))
    switch, report = await in_unit(request, lambda uow: kill_switches.look_again(uow, engaged.id))
    wake_ups_of(request).queued()
    wake_ups_of(request).children()
    response.headers["Location"] = f"/v1/kill-switches/{switch.id}"
    return KillSwitchOut.of(switch, report)


@router.get("", permission="kill_switch:read", **KILL_SWITCH_LIST.options)
async def list_kill_switches(uow: Uow, query: Annotated[ListQuery, Depends(KILL_SWITCH_LIST.query)]) -> Response:
    """The organization's switches, engaged and released."""
    return KILL_SWITCH_LIST.answer(await kill_switches.list_kill_switches(uow, query))


@router.get("/count", permission="kill_switch:read")
async def count_kill_switches(uow: Uow, query: Annotated[ListQuery, Depends(KILL_SWITCH_LIST.query)]) -> CountOut:
    """How many switches such a list would show."""
    return CountOut(count=await kill_switches.count_kill_switches(uow, query))


@router.get("/{kill_switch_id}", permission="kill_switch:read")
async def get_kill_switch(uow: Uow, kill_switch_id: UUID) -> KillSwitchOut:
    """One switch, and what it has stopped so far."""
    switch = await kill_switches.get_kill_switch(uow, kill_switch_id)
    return KillSwitchOut.of(switch, await kill_switches.read_report(uow, switch))


@router.post("/{kill_switch_id}/release", permission="kill_switch:release")
async def release_kill_switch(uow: Uow, kill_switch_id: UUID) -> KillSwitchOut:
    """Let runs of the scope start again; what was stopped stays stopped."""
    switch = await kill_switches.release_kill_switch(uow, kill_switch_id)
    return KillSwitchOut.of(switch, await kill_switches.read_report(uow, switch))
