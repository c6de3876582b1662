"""A run's events over HTTP: read from the tables while somebody watches, and only then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Header, Request
from fastapi.responses import StreamingResponse

from chassis.http import Router, allow_seconds, caller_of
from chassis.units import door_of, in_unit, permit_of
from chassis.uow import UnitOfWork
from execution.api import objects_of, signals_of
from execution.domain.runs import FINAL
from execution.tables.runs import Run, Step
from execution.usecases import runs
from execution.usecases.hindrances import Hindrance, find_hindrance
from execution.usecases.signals import POLL_SECONDS, RunSignals
from execution.usecases.steps import steps_of
from execution.usecases.watching import WatchEvent, after, events_of

router = Router("run", prefix="/v1/runs")

HEARTBEAT_SECONDS = 15.0
HINDRANCE_SECONDS = 1.0
MAX_WATCH_SECONDS = 3600.0
_SLACK_SECONDS = 30


@router.get("/{run_id}/events", permission="run:read")
async def watch_run(
    request: Request, run_id: UUID, last_event_id: Annotated[str, Header(max_length=300)] = ""
) -> StreamingResponse:
    """What happens in a run, as it happens: server-sent events named as in AG-UI; comes back by Last-Event-ID."""
    await in_unit(request, lambda uow: runs.get_run(uow, run_id))
    allow_seconds(request, MAX_WATCH_SECONDS + _SLACK_SECONDS)
    events = stream_events(request, signals_of(request), run_id, last_event_id)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def stream_events(
    request: Request, signals: RunSignals, run_id: UUID, last_event_id: str
) -> AsyncIterator[bytes]:
    """The events of a run after the given one, until it is over; a comment every 15 s, an hour at most."""
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
        await signals.rest(run_id, POLL_SECONDS)


def encode(event: WatchEvent) -> bytes:
    """One event as it goes over the wire; JSON holds no line breaks."""
    data = orjson.dumps({"type": event.name, **event.data})
    return b"".join((b"id: ", event.id.encode(), b"\nevent: ", event.name.encode(), b"\ndata: ", data, b"\n\n"))


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
