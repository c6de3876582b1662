"""A run's events over HTTP: read from the tables while somebody watches, and only then; texts as they are written."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request
from fastapi.responses import StreamingResponse

from chassis.errors import RefusalError
from chassis.http import Router, allow_seconds, caller_of
from chassis.units import door_of, in_unit, permit_for, permit_of
from chassis.uow import UnitOfWork
from execution.api import desk_of, objects_of, wake_ups_of
from execution.domain.runs import FINAL
from execution.tables.runs import Run, Step
from execution.usecases import runs
from execution.usecases.hindrances import Hindrance, find_hindrance
from execution.usecases.run_events import (
    HEARTBEAT_SECONDS,
    MAX_WATCH_SECONDS,
    after,
    encode,
    encode_text,
    events_of,
)
from execution.usecases.run_texts import TextWatcher
from execution.usecases.steps import steps_of
from execution.usecases.wake_ups import POLL_SECONDS, WakeUps

router = Router("run", prefix="/v1/runs")

HINDRANCE_SECONDS = 1.0
_SLACK_SECONDS = 30


@router.get("/{run_id}/events", permission="run:read")
async def watch_run(
    request: Request, run_id: UUID, last_event_id: Annotated[str, Header(max_length=300)] = ""
) -> StreamingResponse:
    """What happens in a run, as it happens: server-sent events named as in AG-UI; comes back by Last-Event-ID.

    Who may read what steps give is told what models write while they write it, as events without an id.
    """
    run = await in_unit(request, lambda uow: runs.get_run(uow, run_id))
    allow_seconds(request, MAX_WATCH_SECONDS + _SLACK_SECONDS)
    events = stream_run(request, run, last_event_id, with_texts=await _may_read_texts(request, run))
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _may_read_texts(request: Request, run: Run) -> bool:
    """What a model writes becomes the output of its step: who is not shown that is not shown it on its way either."""
    try:
        permit = await permit_for(request, "step:read")
        permit.check("step", str(run.id), {"created_by": run.created_by, "workspace_id": str(run.workspace_id)})
    except RefusalError:
        return False
    return "output" not in (*permit.masked, *permit_of(request).masked)


async def stream_run(
    request: Request, run: Run, last_event_id: str, *, with_texts: bool = False
) -> AsyncIterator[bytes]:
    """The events of a run, and between them what its models write if that is asked for."""
    wake_ups = wake_ups_of(request)
    if not with_texts or run.status in FINAL:
        async for content in _events(request, run.id, last_event_id):
            yield content
            if not content:
                await wake_ups.rest(run.id, POLL_SECONDS)
        return
    async with desk_of(request).watching(run.id) as watcher:
        async for content in _events(request, run.id, last_event_id):
            yield content
            if not content:
                async for text in _written_meanwhile(wake_ups, run.id, watcher):
                    yield text


async def _events(request: Request, run_id: UUID, last_event_id: str) -> AsyncIterator[bytes]:
    """The events after the given one, until the run is over; nothing where it is time to rest; an hour at most."""
    clock = asyncio.get_running_loop().time
    end, beat_at = clock() + MAX_WATCH_SECONDS, clock() + HEARTBEAT_SECONDS
    look = _Look(request, run_id)
    told: set[str] = set()
    while clock() < end:
        if await look.again():
            for event in events_of(look.run, look.steps, look.hindrance):
                if event.id not in told and after(event, last_event_id):
                    told.add(event.id)
                    yield encode(event)
                    beat_at = clock() + HEARTBEAT_SECONDS
        if look.run.status in FINAL:
            return
        if clock() >= beat_at:
            yield b": still here\n\n"
            beat_at = clock() + HEARTBEAT_SECONDS
        yield b""


async def _written_meanwhile(wake_ups: WakeUps, run_id: UUID, watcher: TextWatcher) -> AsyncIterator[bytes]:
    """What is written until it is time to look at the run again."""
    resting = asyncio.create_task(wake_ups.rest(run_id, POLL_SECONDS))
    writing = asyncio.create_task(watcher.take())
    try:
        while not resting.done():
            await asyncio.wait({resting, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                for piece in writing.result():
                    yield encode_text(piece)
                writing = asyncio.create_task(watcher.take())
    finally:
        resting.cancel()
        writing.cancel()


class _Look:
    """What was last seen of a run; its steps are read again only when the run's row moved."""

    def __init__(self, request: Request, run_id: UUID) -> None:
        self._request, self._run_id = request, run_id
        self._seen: tuple[object, ...] = ()
        self.run: Run
        self.steps: list[Step] = []
        self.hindrance: Hindrance | None = None
        self._hindrance_at = 0.0

    async def again(self) -> bool:
        """Look; False when nothing moved since."""
        door, request = door_of(self._request), self._request
        async with door.units.begin(caller_of(request), permit_of(request)) as uow:
            return await self._read(uow)

    async def _read(self, uow: UnitOfWork) -> bool:
        run = self.run = await runs.get_run(uow, self._run_id)
        seen = (run.status, run.token, run.last_step, run.step_count, run.input_tokens, run.output_tokens, run.version)
        if not await self._has_new_hindrance(uow, run, moved=seen != self._seen) and seen == self._seen:
            return False
        self.steps, self._seen = await steps_of(uow, run), seen
        return True

    async def _has_new_hindrance(self, uow: UnitOfWork, run: Run, *, moved: bool) -> bool:
        """Look what a queued run waits for, once a second; whether that is something else than before."""
        now, before = asyncio.get_running_loop().time(), self.hindrance
        if moved or now >= self._hindrance_at:
            self._hindrance_at = now + HINDRANCE_SECONDS
            self.hindrance = await find_hindrance(uow, run, objects_of(self._request))
        return self.hindrance is not None and (before is None or before.reason != self.hindrance.reason)
