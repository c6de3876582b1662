"""Routes of runs: started, watched, read, stopped, explained."""

import re
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from chassis.http import Router, Uow, allow_seconds
from chassis.units import in_unit, permit_of, rules_of
from execution.api.run_bodies import CancelRunIn, ExplanationOut, RunOut, RunSummaryOut, StartRunIn
from execution.api.run_events import MAX_WATCH_SECONDS, stream_events
from execution.clients.objects import Objects
from execution.domain.runs import FINAL, RunStatus
from execution.usecases import explaining, run_starts, runs
from execution.usecases.signals import RunSignals
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("run", prefix="/v1/runs")

RUN_LIST = Listing(runs.RUNS, RunSummaryOut)
MAX_WAIT_SECONDS = 60
_SLACK_SECONDS = 30
_WAIT = re.compile(r"(?:^|[,;\s])wait=([0-9]{1,4})(?:$|[,;\s])")

Prefer = Annotated[str, Header(max_length=200, description="`wait=30`: answer when the run is over, or after 30 s.")]
IdempotencyKey = Annotated[str | None, Header(description="The same key and body give the same run for 24 hours.")]


def objects_of(request: Request) -> Objects:
    """Where large payloads are."""
    objects: Objects = request.app.state.objects
    return objects


def signals_of(request: Request) -> RunSignals:
    """How processes tell each other of runs."""
    signals: RunSignals = request.app.state.signals
    return signals


@router.post("", permission="run:create", status=202)
async def start_run(
    request: Request, response: Response, body: StartRunIn, prefer: Prefer = "", idempotency_key: IdempotencyKey = None
) -> RunOut:
    """Start a run. Answers 202 with its Location, or 200 with its end if `Prefer: wait` lasted long enough."""
    rules, objects, asked = await rules_of(request), objects_of(request), body.request()
    run = await in_unit(
        request,
        lambda uow: run_starts.start_run(uow, asked, rules=rules, objects=objects, idempotency_key=idempotency_key),
    )
    signals_of(request).queued()
    if seconds := wait_of(prefer):
        await _wait(request, run.id, seconds)
        run = await in_unit(request, lambda uow: runs.get_run(uow, run.id))
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
    if run.status not in FINAL and (seconds := wait_of(prefer)):
        await _wait(request, run_id, seconds)
        run = await in_unit(request, lambda uow: runs.get_run(uow, run_id))
    return await RunOut.of(run, objects_of(request), permit_of(request).masked)


@router.get("/{run_id}/events", permission="run:read")
async def watch_run(
    request: Request, run_id: UUID, last_event_id: Annotated[str, Header(max_length=300)] = ""
) -> StreamingResponse:
    """What happens in a run, as it happens: server-sent events named as in AG-UI; comes back by Last-Event-ID."""
    await in_unit(request, lambda uow: runs.get_run(uow, run_id))
    allow_seconds(request, MAX_WATCH_SECONDS + _SLACK_SECONDS)
    events = stream_events(request, signals_of(request), run_id, last_event_id)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.post("/{run_id}/cancel", permission="run:cancel")
async def cancel_run(request: Request, run_id: UUID, body: CancelRunIn | None = None) -> RunOut:
    """Stop a run that has not finished; cancelling it again changes nothing."""
    reason = "" if body is None else body.reason
    run = await in_unit(request, lambda uow: runs.cancel_run(uow, run_id, reason=reason))
    if run.status == RunStatus.CANCELLED:
        signals_of(request).ended([run.id])
    return await RunOut.of(run, objects_of(request), permit_of(request).masked)


@router.get("/{run_id}/explain", permission="run:read")
async def explain_run(request: Request, uow: Uow, run_id: UUID) -> ExplanationOut:
    """Who asked, which rule allowed it, what exactly ran, what it did and what it cost."""
    found = await explaining.explain_run(uow, run_id)
    return await ExplanationOut.of(found, objects_of(request), uow.permit.masked)


def wait_of(prefer: str) -> int:
    """The seconds in `Prefer: wait=30`, at most 60; 0 without."""
    found = _WAIT.search(prefer)
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0


async def _wait(request: Request, run_id: UUID, seconds: int) -> None:
    allow_seconds(request, seconds + _SLACK_SECONDS)

    async def over() -> bool:
        return (await in_unit(request, lambda uow: runs.get_run(uow, run_id))).status in FINAL

    await signals_of(request).wait_until(run_id, over, seconds)
