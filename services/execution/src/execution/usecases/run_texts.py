"""What a model writes, told to whoever watches its run while it writes: never stored, and lost where nobody listens.

A door says which runs are watched; only their models are asked to answer as a stream. A worker publishes to the doors
that have said so, and a door hands on to those who may read what steps give.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import orjson

from chassis.ids import new_id
from chassis.telemetry import logger
from execution.clients.live_line import LiveLine
from execution.domain.run_texts import Piece, TextPieces

if TYPE_CHECKING:
    from spine.service import Running

WATCHED_KEY = "execution.watched"
RENEW_SECONDS = 10.0
WATCHED_SECONDS = 30.0
"""A worker forgets a run that no door has named for so long."""
EXPECT_SECONDS = 0.25
"""How long the start of a run waits for a connection to say that it is watched; without one it starts unwatched."""
MAX_WATCHED = 10_000
"""Runs that a worker remembers as watched; others are told without text."""
TELL_SECONDS = 0.1
"""A step's text is told ten times a second at most."""
MAX_PIECES = 200
"""What waits for one watcher; the oldest is lost."""
log = logger(part="texts")


class TextOf(NamedTuple):
    """Whose text it is: an attempt at a step."""

    run_id: UUID
    node: str
    iteration: int
    attempt: int


class TextSource:
    """A worker's side: knows which runs are watched, and publishes what their models write."""

    def __init__(self, amqp_url: str) -> None:
        self.line = LiveLine(amqp_url, "watched", self._hear)
        self._watched: dict[UUID, dict[str, float]] = {}
        self._swept_at = float("-inf")

    async def run(self, _: Running) -> None:
        """Hear of watched runs until cancelled: for `Service(workers=[...])`."""
        await self.line.run(WATCHED_KEY)

    def sink(self, whose: TextOf) -> Callable[[str], None] | None:
        """Where an attempt's text goes, piece by piece, an empty one making all before it void; None: to nobody."""
        return _Sink(self, whose).add if whose.run_id in self._watched and self.doors(whose.run_id) else None

    def doors(self, run_id: UUID) -> list[str]:
        """The doors at which this run is watched."""
        now, found = asyncio.get_running_loop().time(), self._watched.get(run_id, {})
        if gone := [door for door, until in found.items() if until < now]:
            for door in gone:
                del found[door]
            if not found:
                self._watched.pop(run_id, None)
        return list(found)

    def tell(self, whose: TextOf, piece: Piece) -> None:
        """Publish a piece to the doors where it is watched."""
        body = orjson.dumps({**whose._asdict(), **piece._asdict()})
        for door in self.doors(whose.run_id):
            self.line.publish(_key(door), body)

    def _hear(self, body: bytes) -> None:
        try:
            told = orjson.loads(body)
            door, watched, left = str(told["door"]), map(UUID, told["watched"]), map(UUID, told["left"])
            self._note(door, list(watched), list(left))
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("unreadable_watch")

    def _note(self, door: str, watched: Iterable[UUID], left: Iterable[UUID]) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept_at > RENEW_SECONDS:
            self._swept_at = now
            for run_id in list(self._watched):
                self.doors(run_id)
        until = now + WATCHED_SECONDS
        for run_id in watched:
            if run_id in self._watched or len(self._watched) < MAX_WATCHED:
                self._watched.setdefault(run_id, {})[door] = until
        for run_id in left:
            self._watched.get(run_id, {}).pop(door, None)
            if not self._watched.get(run_id):
                self._watched.pop(run_id, None)


class _Sink:
    """Gathers an attempt's text, and tells it so often and no more."""

    def __init__(self, source: TextSource, whose: TextOf) -> None:
        self._source, self._whose, self._pieces = source, whose, TextPieces()
        self._loop = asyncio.get_running_loop()
        self._told_at = float("-inf")
        self._due: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        """More was written."""
        if self._pieces.add(text) and self._due is None:
            self._due = self._loop.call_at(max(self._loop.time(), self._told_at + TELL_SECONDS), self._tell)

    def _tell(self) -> None:
        self._due, self._told_at = None, self._loop.time()
        piece = self._pieces.take()
        if piece.text or piece.is_cut:
            self._source.tell(self._whose, piece)


@dataclass(eq=False, slots=True)
class TextWatcher:
    """One who watches a run: the pieces that it has not been told yet."""

    pieces: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_PIECES))
    _stir: asyncio.Event = field(default_factory=asyncio.Event)

    def push(self, piece: dict[str, Any]) -> None:
        """There is another."""
        self.pieces.append(piece)
        self._stir.set()

    async def take(self) -> list[dict[str, Any]]:
        """The next pieces, once there are some."""
        await self._stir.wait()
        self._stir.clear()
        taken = list(self.pieces)
        self.pieces.clear()
        return taken


class TextDesk:
    """A door's side: says which runs are watched, and hands what comes of them to their watchers."""

    def __init__(self, amqp_url: str) -> None:
        self._door = new_id().hex
        self.line = LiveLine(amqp_url, "texts", self._hear, on_open=self._renew)
        self._watchers: dict[UUID, set[TextWatcher]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def expect(self, run_id: UUID) -> None:
        """Somebody is about to watch a run that has not begun: say so before its first step can be there."""
        self._open()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXPECT_SECONDS):
                await self.line.opened.wait()
        self._say(watched=[run_id])

    @contextlib.asynccontextmanager
    async def watching(self, run_id: UUID) -> AsyncIterator[TextWatcher]:
        """Watch what is written in a run during this block."""
        self._open()
        watcher, watchers = TextWatcher(), self._watchers.setdefault(run_id, set())
        watchers.add(watcher)
        self._say(watched=[run_id])
        try:
            yield watcher
        finally:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(run_id, None)
                self._say(left=[run_id])

    async def close(self) -> None:
        """Let go of the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _open(self) -> None:
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self.line.run(_key(self._door))), loop.create_task(self._keep_renewing())]

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self._renew()

    def _renew(self) -> None:
        if self._watchers:
            self._say(watched=list(self._watchers))

    def _say(self, *, watched: Iterable[UUID] = (), left: Iterable[UUID] = ()) -> None:
        told = {"door": self._door, "watched": list(watched), "left": list(left)}
        self.line.publish(WATCHED_KEY, orjson.dumps(told, default=str))

    def _hear(self, body: bytes) -> None:
        try:
            piece = orjson.loads(body)
            run_id = UUID(piece.pop("run_id"))
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("unreadable_text")
            return
        for watcher in self._watchers.get(run_id, ()):
            watcher.push(piece)


def _key(door: str) -> str:
    return f"execution.text.{door}"
