"""A run's events over HTTP: read from the tables while somebody watches, and only then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request
from fastapi.responses import StreamingResponse

from chassis.http import Router, allow_seconds, caller_of
from chassis.units import door_of, in_unit, permit_of
from chassis.uow import UnitOfWork
from execution.api import signals_of
from execution.domain.runs import FINAL
from execution.tables.runs import Run, Step
from execution.usecases import runs
from execution.usecases.signals import POLL_SECONDS, RunSignals
from execution.usecases.steps import steps_of
from execution.usecases.watching import HEARTBEAT_SECONDS, MAX_WATCH_SECONDS, after, encode, events_of

router = Router("run", prefix="/v1/runs")

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
            for event in events_of(look.run, look.steps):
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


class _Look:
    """What was last seen of a run; its steps are read again only when the run's row moved."""

    def __init__(self, request: Request, run_id: UUID) -> None:
        self._request, self._run_id = request, run_id
        self._seen: tuple[object, ...] = ()
        self.run: Run
        self.steps: list[Step] = []

    async def again(self) -> bool:
        """Look; False when nothing moved since."""
        door, request = door_of(self._request), self._request
        async with door.units.begin(caller_of(request), permit_of(request)) as uow:
            return await self._read(uow)

    async def _read(self, uow: UnitOfWork) -> bool:
        run = self.run = await runs.get_run(uow, self._run_id)
        seen = (run.status, run.token, run.last_step, run.step_count, run.input_tokens, run.output_tokens, run.version)
        if seen == self._seen:
            return False
        self.steps, self._seen = await steps_of(uow, run), seen
        return True
