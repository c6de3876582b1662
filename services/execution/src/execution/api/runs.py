"""Routes of runs: started, read, waited for, stopped."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from chassis.http import Router, Uow, allow_seconds
from chassis.objects import Objects, read_payload
from chassis.telemetry import trace_id
from chassis.units import in_unit, permit_of, rules_of
from chassis.uow import UnitOfWork
from execution.api import expect_watcher, objects_of, wake_ups_of
from execution.domain.runs import FINAL, RunStatus, elapsed_ms
from execution.tables.runs import Run
from execution.usecases import run_signals, runs
from execution.usecases.hindrances import find_hindrance, told_of
from execution.usecases.runs import RunRequest
from resources.bodies import In, Reference
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("run", prefix="/v1/runs")


class StartRunIn(In):
    """What to run: an agent or an orchestration by id or name, its workspace where the name is not enough, an input."""

    agent: Reference | None = None
    orchestration: Reference | None = None
    workspace: Reference | None = None
    version: Annotated[str, Field(max_length=64)] = "current"
    input: dict[str, Any] = {}
    trigger_type: Literal["api", "cli", "mcp"] = "api"
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.agent is None) == (self.orchestration is None):
            msg = "name either an agent or an orchestration"
            raise ValueError(msg)
        return self

    def request(self) -> RunRequest:
        """The same for the use case."""
        return RunRequest(
            kind="agent" if self.agent is not None else "orchestration",
            reference=self.agent or self.orchestration or "",
            workspace=self.workspace,
            semver=self.version,
            input=self.input,
            trigger_type=self.trigger_type,
            priority=self.priority,
        )


class SignalRunIn(In):
    """A signal."""

    name: Annotated[str, Field(description="As the orchestration calls it, or the id of the step.", max_length=63)]
    payload: Any = Field(None, description="Becomes the output of the step that waits.")


class CancelRunIn(In):
    """Why a run is stopped."""

    reason: Annotated[str, Field(max_length=500)] = ""


class RunSummaryOut(BaseModel):
    """A run without what went in and came out."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    gateway_id: UUID | None
    execution_type: str
    agent_id: UUID | None
    orchestration_id: UUID | None
    semver: str
    config_digest: str
    triggered_by: str
    trigger_type: str
    created_by: str
    status: str
    waiting_for: str | None
    priority: int
    error_code: str | None
    error_message: str | None
    stop_reason: str | None
    queued_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    step_count: int
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int
    parent_run_id: UUID | None
    parent_step_id: UUID | None = Field(description="Of a child run: the step of its parent that it is.")
    root_run_id: UUID
    depth: int = Field(description="How many runs are above it.")
    forked_from: UUID | None
    decision_id: UUID
    created_at: datetime


class RunOut(RunSummaryOut):
    """A run."""

    execution_time_ms: int | None = None
    trace_id: str | None = None
    limits: dict[str, Any]
    decision: dict[str, Any]
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    input: Any = None
    output: Any = None
    hindrance: dict[str, Any] | None = Field(
        None, description="What a queued run waits for: `reason`, and what is known of it; shown where one run is read."
    )
    masked: list[str] = Field(default=[], description="What this caller may not be shown.")

    @classmethod
    async def of(cls, row: Run, objects: Objects, masked: tuple[str, ...]) -> Self:
        """The public form of a row, its payloads fetched from wherever they are."""
        out = cls.model_validate({name: getattr(row, name) for name in _COLUMNS})
        out.execution_time_ms = elapsed_ms(row.started_at, row.completed_at)
        out.trace_id = trace_id(row.traceparent) or None
        out.masked = list(masked)
        if "input" not in masked:
            out.input = await read_payload(row.input, row.input_ref, objects)
        if "output" not in masked:
            out.output = await read_payload(row.output, row.output_ref, objects)
        return out


_COLUMNS = tuple(
    name
    for name in RunOut.model_fields
    if name not in {"execution_time_ms", "trace_id", "input", "output", "masked", "hindrance"}
)


RUN_LIST = Listing(runs.RUNS, RunSummaryOut)
MAX_WAIT_SECONDS = 60
_SLACK_SECONDS = 30
_WAIT = re.compile(r"(?:^|[,;\s])wait=([0-9]{1,4})(?:$|[,;\s])")

Prefer = Annotated[str, Header(max_length=200, description="`wait=30`: answer when the run is over, or after 30 s.")]
PreferOfStart = Annotated[
    str,
    Header(
        alias="prefer",
        max_length=200,
        description="`wait=30`: answer when the run is over, or after 30 s. `watch`: somebody will watch it at once, "
        "so that its first model answers bit by bit too.",
    ),
]
IdempotencyKey = Annotated[str | None, Header(description="The same key and body give the same run for 24 hours.")]


@router.post("", permission="run:create", status=202)
async def start_run(
    request: Request,
    response: Response,
    body: StartRunIn,
    prefer: PreferOfStart = "",
    idempotency_key: IdempotencyKey = None,
) -> RunOut:
    """Start a run. Answers 202 with its Location, or 200 with its end if `Prefer: wait` lasted long enough."""
    rules, objects, asked = await rules_of(request), objects_of(request), body.request()
    run = await in_unit(
        request,
        lambda uow: runs.start_run(uow, asked, rules=rules, objects=objects, idempotency_key=idempotency_key),
    )
    await expect_watcher(request, run.id, prefer)
    wake_ups_of(request).queued()
    if seconds := wait_of(prefer):
        run = await _wait(request, run, seconds)
        response.headers["Preference-Applied"] = f"wait={seconds}"
    response.headers["Location"] = f"/v1/runs/{run.id}"
    response.status_code = 200 if run.status in FINAL else 202
    return await RunOut.of(run, objects, permit_of(request).masked)


@router.get("", permission="run:read", **RUN_LIST.options)
async def list_runs(uow: Uow, query: Annotated[ListQuery, Depends(RUN_LIST.query)]) -> Response:
    """The organization's runs, the newest first; without what went in and came out."""
    return RUN_LIST.answer(await runs.list_runs(uow, query))


@router.get("/count", permission="run:read")
async def count_runs(uow: Uow, query: Annotated[ListQuery, Depends(RUN_LIST.query)]) -> CountOut:
    """How many runs such a list would show."""
    return CountOut(count=await runs.count_runs(uow, query))


@router.get("/{run_id}", permission="run:read")
async def get_run(request: Request, run_id: UUID, prefer: Prefer = "") -> RunOut:
    """The run; with `Prefer: wait`, once it is over or the time is up."""
    run = await in_unit(request, lambda uow: runs.get_run(uow, run_id))
    if seconds := wait_of(prefer):
        run = await _wait(request, run, seconds)
    objects = objects_of(request)
    out = await RunOut.of(run, objects, permit_of(request).masked)
    if run.status == RunStatus.QUEUED:
        out.hindrance = told_of(await in_unit(request, lambda uow: find_hindrance(uow, run, objects)))
    return out


@router.post("/{run_id}/cancel", permission="run:cancel")
async def cancel_run(request: Request, run_id: UUID, body: CancelRunIn | None = None) -> RunOut:
    """Stop a run that has not finished; cancelling it again changes nothing."""
    reason = "" if body is None else body.reason
    run = await in_unit(request, lambda uow: runs.cancel_run(uow, run_id, reason=reason))
    wake_ups_of(request).children()
    if run.status == RunStatus.CANCELLED:
        wake_ups_of(request).ended([run.id])
    return await RunOut.of(run, objects_of(request), permit_of(request).masked)


@router.post("/{run_id}/signal", permission="run:signal")
async def signal_run(request: Request, run_id: UUID, body: SignalRunIn) -> RunOut:
    """Send a run the signal that steps of it wait for: it goes on with the payload as their output."""
    objects = objects_of(request)

    async def send(uow: UnitOfWork) -> Run:
        return await run_signals.signal_run(uow, run_id, name=body.name, payload=body.payload, objects=objects)

    run = await in_unit(request, send)
    wake_ups_of(request).queued()
    return await RunOut.of(run, objects, permit_of(request).masked)


def wait_of(prefer: str) -> int:
    """The seconds in `Prefer: wait=30`, at most 60; 0 without."""
    found = _WAIT.search(prefer)
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0


async def _wait(request: Request, run: Run, seconds: int) -> Run:
    """The run as it was last read: over, or as it was when the time was up."""
    if run.status in FINAL:
        return run
    allow_seconds(request, seconds + _SLACK_SECONDS)
    last = run

    async def over() -> bool:
        nonlocal last
        last = await in_unit(request, lambda uow: runs.get_run(uow, run.id))
        return last.status in FINAL

    await wake_ups_of(request).wait_until(run.id, over, seconds)
    return last
