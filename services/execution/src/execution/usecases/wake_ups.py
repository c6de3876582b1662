"""Wake-ups between the processes of execution: a run was queued, a run has ended. Losing one costs a poll's time.

They are sent outside business transactions, whose commits they would serialize, and one in five milliseconds at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import asyncpg

from chassis.telemetry import logger

QUEUED = "run_queued"
ENDED = "run_ended"
WAITING = "run_waiting"
"""A run waits for a moment."""
CHILDREN = "run_children"
"""There is a child run to start or to stop, or one has ended."""
INTERVAL_SECONDS = 0.005
POLL_SECONDS = 0.25
FIRST_LOOK_SECONDS = 0.05
"""What ends between the reading that somebody waits for and their listening is seen so much later."""
MAX_PAYLOAD_IDS = 200
"""A notification holds 8,000 bytes; an id and its comma 37."""
log = logger(part="wake_ups")


class WakeUps:
    """One connection that tells and hears of runs; made on first use, made again after it was lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None
        self._opening = asyncio.Lock()
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._children = asyncio.Event()
        self._outgoing: list[tuple[str, str]] = []
        self._sender: asyncio.Task[None] | None = None

    def queued(self) -> None:
        """Tell the engine's admission that there is a run to dispatch; call after its commit."""
        self._send(QUEUED, "")

    def ended(self, run_ids: Iterable[UUID]) -> None:
        """Tell whoever waits for these runs that they are over; call after their commit."""
        ids = list(run_ids)
        for run_id in ids:
            self._wake(run_id)
        for start in range(0, len(ids), MAX_PAYLOAD_IDS):
            self._send(ENDED, ",".join(str(run_id) for run_id in ids[start : start + MAX_PAYLOAD_IDS]))

    def children(self) -> None:
        """Tell whoever looks after child runs that one is to be started, stopped or told of; call after the commit."""
        self._children.set()
        self._send(CHILDREN, "")

    async def wait_for_children(self, seconds: float) -> None:
        """Wait until somebody tells of child runs, or for so long."""
        await self._try_open()
        await _rest(self._children, seconds)

    async def wait_until(self, run_id: UUID, done: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        """Wait until `done` says so, asked at each wake-up of the run and every 250 ms; False when time is up.

        First after 50 ms: who waits has just seen that it is not over, and would only be in the way of its start.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        with self._listening(run_id) as event:
            await self._try_open()
            await _rest(event, min(FIRST_LOOK_SECONDS, seconds))
            while not await done():
                if clock() >= end:
                    return False
                await _rest(event, min(POLL_SECONDS, max(end - clock(), 0)))
        return True

    async def rest(self, run_id: UUID, seconds: float) -> None:
        """Wait that long, or less if the run ends meanwhile."""
        with self._listening(run_id) as event:
            await self._try_open()
            await _rest(event, seconds)

    async def close(self) -> None:
        """End the connection."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
        if self._connection is not None:
            self._connection.terminate()

    def _send(self, channel: str, payload: str) -> None:
        if (channel, payload) not in self._outgoing:
            self._outgoing.append((channel, payload))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._outgoing:
            batch, self._outgoing = self._outgoing, []
            channels, payloads = zip(*batch, strict=True)
            try:
                connection = await self._open()
                notify = "select pg_notify(c, p) from unnest($1::text[], $2::text[]) as s(c, p)"
                await connection.execute(notify, channels, payloads, timeout=5)
            except Exception as error:  # noqa: BLE001  (the polls of those who wait are the net)
                log.warning("signal_lost", error=type(error).__name__)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _open(self) -> Any:
        async with self._opening:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._dsn,
                    timeout=5,
                    # A word that is lost in a crash costs a poll's time: nobody waits until it is on disk.
                    server_settings={"application_name": "remit-execution wake-ups", "synchronous_commit": "off"},
                )
                await self._connection.add_listener(ENDED, self._heard)
                await self._connection.add_listener(CHILDREN, lambda *_: self._children.set())
            return self._connection

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        for run_id in payload.split(","):
            with contextlib.suppress(ValueError):
                self._wake(UUID(run_id))

    def _wake(self, run_id: UUID) -> None:
        for event in self._waiting.get(run_id, ()):
            event.set()

    @contextlib.contextmanager
    def _listening(self, run_id: UUID) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(event)
        try:
            yield event
        finally:
            events = self._waiting.get(run_id, set())
            events.discard(event)
            if not events:
                self._waiting.pop(run_id, None)

    async def _try_open(self) -> None:
        with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
            await self._open()


async def _rest(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
