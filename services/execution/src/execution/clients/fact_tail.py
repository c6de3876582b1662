"""The last minutes of a service's own facts, followed on their stream while somebody wants them, and kept in memory.

Nothing is asked of the database, and a fact costs as much as cutting it out of its chunk; readers share one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from rstream import schema
from rstream.constants import OffsetType

from spine.fact_message import Head, RawFact, head_of
from spine.stream import Link, StreamPlace, keep_running, stream_of

WINDOW_SECONDS = 120
"""How far back it begins; it then keeps what it has."""
MAX_FACTS = 20_000
"""What it keeps at most, of all organizations together: about 20 MB."""
LINGER_SECONDS = 30.0
"""How long it goes on after the last reader has left: who comes back at once finds it in place."""
EMPTY_SECONDS = 1.0
"""A stream that shows no last chunk within this time has none."""
CREDIT_CHUNKS = 10
PAUSE_SECONDS = 1.0
_LAST, _FROM = 0, 1
"""The numbers of its two subscriptions."""


class TailedFact(NamedTuple):
    """A fact, and when the broker had it (milliseconds since 1970, by the broker's clock)."""

    fact: RawFact
    at_ms: int


class FactTail:
    """Follows one stream while it is wanted; `listen` is called, and must return at once, when there is more to read.

    Facts have consecutive positions in this process, for readers to remember; `first` is the oldest that is kept.
    """

    def __init__(
        self, place: StreamPlace, service: str, keep: Callable[[RawFact], bool], *, stream: str | None = None
    ) -> None:
        self._place, self._service, self._keep = place, service, keep
        self._stream = stream or stream_of(service)
        self.listen: Callable[[RawFact | None], None] = lambda _: None
        """Called with each fact that is kept, and with None when something else has changed."""
        self.is_ready = False
        """Whether it has come to the end of the stream once."""
        self.since_ms = 0
        """Everything that was published from then on is here, or was nothing to keep."""
        self.heard_ms = 0
        """When the newest of what it has read was published."""
        self.first = 0
        self._facts: deque[TailedFact] = deque()
        self._sequence = 0
        self._wanted = 0
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None

    @property
    def end(self) -> int:
        """The position that the next fact will have."""
        return self.first + len(self._facts)

    def since(self, position: int) -> list[TailedFact]:
        """What is kept from this position on."""
        return [self._facts[at] for at in range(max(0, position - self.first), len(self._facts))]

    @contextlib.asynccontextmanager
    async def wanted(self) -> AsyncIterator[None]:
        """Follow the stream during this block."""
        self._wanted += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._task is None:
            self._task = asyncio.create_task(
                keep_running(self._follow, f"{self._service}.tail", pause=lambda _: PAUSE_SECONDS)
            )
        try:
            yield
        finally:
            self._wanted -= 1
            if not self._wanted:
                self._ending = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop)

    async def close(self) -> None:
        """Stop following."""
        if self._ending is not None:
            self._ending.cancel()
        if (task := self._stop()) is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _stop(self) -> asyncio.Task[None] | None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._forget(0)
        self.is_ready, self.heard_ms, self._sequence = False, 0, 0
        return task

    def _forget(self, since_ms: int) -> None:
        """What was kept is no whole: readers that have not come to its end are behind."""
        self.first = self.end + 1
        self._facts.clear()
        self.since_ms = since_ms

    async def _follow(self) -> None:
        async with Link(self._place, f"remit {self._service} tail", (self._stream,)) as link:
            for number in (_LAST, _FROM):
                link.client.add_handler(schema.Deliver, lambda _: None, str(number))
            end = await self._end_of(link)
            start = self._start(0 if end is None else end.timestamp)
            last = -1 if end is None else end.chunk_first_offset
            if last < 0:
                self._be_ready()

            async def take(chunk: schema.Deliver) -> None:
                if chunk.subscription_id != _FROM:
                    return
                self._read(chunk)
                if chunk.chunk_first_offset >= last and not self.is_ready:
                    self._be_ready()
                await link.client.credit(_FROM, 1)

            await link.client.run_queue_listener_task(_FROM, take)
            # To a stream that was empty, a moment means whatever comes after the broker has looked for it: what was
            # published meanwhile would be missed.
            kind = (OffsetType.FIRST, None) if end is None else (OffsetType.TIMESTAMP, start)
            at = schema.OffsetSpec.from_params(*kind)
            await link.client.subscribe(self._stream, _FROM, at, CREDIT_CHUNKS)
            await asyncio.Event().wait()

    async def _end_of(self, link: Link) -> schema.Deliver | None:
        """The last chunk of the stream as it is now."""
        found: asyncio.Future[schema.Deliver] = asyncio.get_running_loop().create_future()

        def take(chunk: schema.Deliver) -> None:
            if chunk.subscription_id == _LAST and not found.done():
                found.set_result(chunk)

        await link.client.run_queue_listener_task(_LAST, take)
        at = schema.OffsetSpec.from_params(OffsetType.LAST, None)
        await link.client.subscribe(self._stream, _LAST, at, 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EMPTY_SECONDS):
                await found
        await link.client.unsubscribe(_LAST)
        return found.result() if found.done() and not found.cancelled() else None

    def _start(self, end_ms: int) -> int:
        """From when on to read: where it was, unless that is too long ago."""
        start = max(0, end_ms - WINDOW_SECONDS * 1000)
        if self.heard_ms >= start and self.heard_ms:
            return self.heard_ms
        self._forget(start)
        self._sequence = 0
        return start

    def _be_ready(self) -> None:
        self.is_ready = True
        self.listen(None)

    def _read(self, chunk: schema.Deliver) -> None:
        for message in chunk.get_messages():
            try:
                head = head_of(message)
            except ValueError:
                continue  # the producer's word on how far it is
            self._take(head, message, chunk.timestamp)
        self.heard_ms = max(self.heard_ms, chunk.timestamp)

    def _take(self, head: Head, message: bytes, at_ms: int) -> None:
        if head.sequence <= self._sequence:
            return  # read before the connection was lost
        if self._sequence and head.sequence > self._sequence + 1:
            self._forget(at_ms)
            self.listen(None)
        self._sequence = head.sequence
        fact = RawFact(self._service, *head[:3], bytes(message))
        if not self._keep(fact):
            return
        if len(self._facts) == MAX_FACTS:
            self.since_ms = max(self.since_ms, self._facts.popleft().at_ms + 1)
            self.first += 1
        self._facts.append(TailedFact(fact, at_ms))
        self.listen(fact)
