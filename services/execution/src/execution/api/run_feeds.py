"""What happens to all runs of an organization, over HTTP: told from the facts, so that an idle watcher asks nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Request
from fastapi.responses import StreamingResponse

from chassis.http import Router, allow_seconds, caller_of
from chassis.rules import admit
from chassis.units import in_unit, rules_of
from execution.api import feed_of
from execution.clients.fact_tail import TailedFact
from execution.usecases.run_events import HEARTBEAT_SECONDS, MAX_WATCH_SECONDS, WatchEvent, encode
from execution.usecases.run_feeds import PACE_SECONDS, Narrowed, RunRow, RunWatcher, changes_of, read_runs

router = Router("run", prefix="/v1/runs")

_SLACK_SECONDS = 30
Seconds = Annotated[float, Query(gt=0, le=MAX_WATCH_SECONDS, description="How long to watch.")]


@router.get("/events", permission="run:read")
async def watch_runs(  # noqa: PLR0917  (each is a parameter of the route)
    request: Request,
    workspace_id: UUID | None = None,
    agent_id: UUID | None = None,
    orchestration_id: UUID | None = None,
    seconds: Seconds = MAX_WATCH_SECONDS,
    last_event_id: Annotated[str, Header(max_length=100)] = "",
) -> StreamingResponse:
    """What happens to the runs that the caller may see, as it happens: server-sent events, named as in AG-UI.

    Begins with WATCH_STARTED, or after a Last-Event-ID with WATCH_RESUMED, or WATCH_RESET where that is too long ago:
    then what is now has to be listed.
    """
    feed_of(request).require_room(caller_of(request).organization_id)
    allow_seconds(request, seconds + _SLACK_SECONDS)
    wanted = Narrowed(workspace_id, agent_id, orchestration_id)
    events = stream_changes(request, wanted, last_event_id, seconds)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def stream_changes(
    request: Request, wanted: Narrowed, last_event_id: str, seconds: float
) -> AsyncIterator[bytes]:
    """The changes of the wanted runs, as they are published; every 15 s a comment with an id to come back by."""
    clock = asyncio.get_running_loop().time
    end, beat_at = clock() + seconds, clock() + HEARTBEAT_SECONDS
    yield b": watching\n\n"
    async with feed_of(request).watched(caller_of(request).organization_id, last_event_id) as watcher:
        while clock() < end:
            watcher.stir.clear()
            for event in await _news(request, watcher, wanted):
                yield encode(event)
            if clock() >= beat_at:
                yield _beat(watcher)
                beat_at = clock() + HEARTBEAT_SECONDS
            if not watcher.is_behind and await _stirred(watcher, min(beat_at, end) - clock()):
                await asyncio.sleep(min(PACE_SECONDS, max(0.0, end - clock())))


async def _news(request: Request, watcher: RunWatcher, wanted: Narrowed) -> list[WatchEvent]:
    if watcher.place is None:
        begun = watcher.begin()
        if begun is None:
            return []
        return [begun, *await _news(request, watcher, wanted)]
    facts = watcher.take()
    if facts is None:
        return [watcher.reset()]
    return await _changes(request, watcher, wanted, facts) if facts else []


async def _changes(
    request: Request, watcher: RunWatcher, wanted: Narrowed, facts: list[TailedFact]
) -> list[WatchEvent]:
    """As the caller may see them now: an hour is long, and rules and the organization's state may have changed."""
    permit = admit(caller_of(request), "run:read", await rules_of(request), named=False)

    async def read(ids: list[UUID]) -> dict[UUID, RunRow]:
        return await in_unit(request, lambda uow: read_runs(uow, ids))

    return changes_of(facts, await watcher.known.of(facts, read), permit, wanted)


async def _stirred(watcher: RunWatcher, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await watcher.stir.wait()
            return True
    return False


def _beat(watcher: RunWatcher) -> bytes:
    stand = watcher.stand()
    return f": still here\nid: {stand}\n\n".encode() if stand else b": still here\n\n"
