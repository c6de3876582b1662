"""Reading one producer's stream without a hole: in order, each once, what the stream lacks asked from the producer."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from rstream import schema
from rstream.constants import OffsetType

from chassis.auth import Trust
from chassis.clock import utc_now
from chassis.telemetry import CONSUMER_LAG, logger
from contracts.chassis import FactsResent
from spine.fact_message import Attestation, RawFact, attestation_of, head_of
from spine.stream import Link, stream_of

Ask = Callable[[str, int, int], Awaitable[FactsResent]]
"""Ask a producer's log for the facts `first`..`last`."""

BATCH_FACTS = 4000
CREDIT_CHUNKS = 20
SURE_SECONDS = 5
ANSWER_SECONDS = 10
RETRY_SECONDS = 2
FRESH_SECONDS = 30

_ADVANCE = """update fact_offset as f set sequence = n.sequence, stream_offset = n.stream_offset, epoch = n.epoch
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[])
  as n (stream, before, sequence, stream_offset, epoch)
where f.stream = n.stream and f.sequence = n.before"""


class GapError(Exception):
    """Facts are missing, or known here and unknown to their producer: this stream stands still until that is solved."""


class TakenOverError(Exception):
    """Another process moved the offset: what we hold is stale."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer has come: a number, and where on the stream it was seen. One never follows from the other."""

    sequence: int = 0
    offset: int = -1
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers the stream did not show; `healed` when they could be brought back or are known to exist nowhere."""

    producer: str
    first: int
    last: int
    healed: bool


@dataclass(slots=True)
class Batch:
    """What was there to read: facts in order, and where that leads."""

    sequence: int
    offset: int
    epoch: int
    facts: list[RawFact] = field(default_factory=list)
    chunks: int = 0
    gaps: list[Gap] = field(default_factory=list)
    voids: int = 0
    attestations: list[Attestation] = field(default_factory=list)

    @property
    def position(self) -> Position:
        """Where the reader stands once this is committed."""
        return Position(self.sequence, self.offset, self.epoch)


class _FullError(Exception):
    """Enough for one transaction; the rest of the gap comes with the next."""


class Reader:
    """One subscription. `take` gives what has arrived, `done` lets the broker send more: only after the commit."""

    def __init__(
        self, link: Link, service: str, producer: str, position: Position, ask: Ask, *,
        stir: asyncio.Event, wanted: Collection[bytes] | None = None, trust: Trust | None = None, number: int = 0,
    ) -> None:  # fmt: skip
        self.producer, self.position, self.problem = producer, position, ""
        self._link, self._service, self._ask, self._stir = link, service, ask, stir
        self._wanted, self._trust, self._number = wanted, trust, number
        self._chunks: deque[schema.Deliver] = deque()
        self._clock = asyncio.get_running_loop().time
        self._sure_by = self._retry_at = float("inf")
        self._log = logger(service=service, producer=producer)

    async def start(self) -> None:
        """Subscribe at the last fact, not after it: beyond its end the broker would wait silently."""
        client = self._link.client
        client.add_handler(schema.Deliver, lambda _: None, str(self._number))
        await client.run_queue_listener_task(self._number, self._on_chunk)
        await self._subscribe(max(0, self.position.offset))
        if self.position.offset >= 0:
            self._sure_by = self._clock() + SURE_SECONDS

    async def _subscribe(self, offset: int) -> None:
        at = schema.OffsetSpec.from_params(OffsetType.OFFSET, offset)
        await self._link.client.subscribe(stream_of(self.producer), self._number, at, CREDIT_CHUNKS)

    async def _subscribe_again(self, offset: int) -> None:
        await self._link.client.unsubscribe(self._number)
        self._chunks.clear()
        await self._subscribe(offset)

    def _on_chunk(self, chunk: schema.Deliver) -> None:
        if chunk.subscription_id != self._number:
            return  # rstream hands every subscription's chunks to every subscriber of the connection
        self._sure_by = float("inf")
        self._chunks.append(chunk)
        self._stir.set()

    async def take(self) -> Batch:
        """What has arrived, up to about 4,000 facts; empty where nothing did, or while this stream stands still."""
        batch = Batch(self.position.sequence, self.position.offset, self.position.epoch)
        if self.problem and self._clock() < self._retry_at:
            return batch
        if self.problem:
            self.problem = ""
            await self._subscribe_again(max(0, self.position.offset))
        elif self._clock() > self._sure_by:
            self._sure_by = float("inf")
            self._log.warning("offset_beyond_end", offset=self.position.offset)
            await self._subscribe_again(0)
        try:
            await self._fill(batch)
        except GapError as gap:
            self._stand_still(str(gap))
        return batch

    async def _fill(self, batch: Batch) -> None:
        while self._chunks and len(batch.facts) < BATCH_FACTS:
            chunk = self._chunks[0]
            try:
                for message in chunk.get_messages():
                    await self._read(batch, message)
            except _FullError:
                return
            self._chunks.popleft()
            batch.chunks += 1
            batch.offset = chunk.chunk_first_offset + chunk.num_records - 1  # a refilled stream starts at 0 again

    async def _read(self, batch: Batch, message: bytes) -> None:
        try:
            sequence, organization_sequence, epoch, kind = head_of(message)
        except ValueError:
            await self._read_other(batch, message)
            return
        if sequence <= batch.sequence:
            return
        if sequence > batch.sequence + 1:
            await self._heal(batch, sequence - 1)
        batch.sequence = sequence
        batch.epoch = max(epoch, batch.epoch)
        if self._wanted is None or kind in self._wanted:
            batch.facts.append(RawFact(self.producer, sequence, organization_sequence, epoch, bytes(message)))

    async def _read_other(self, batch: Batch, message: bytes) -> None:
        try:
            word = attestation_of(message)
        except (ValueError, TypeError, IndexError):
            word = None
        if word is None or word.producer != self.producer or not word.proven_by(self._trust):
            self._log.error("foreign_message", near=batch.sequence)  # if it was a fact, the gap shows
            return
        batch.attestations.append(word)
        CONSUMER_LAG.labels(self._service, self.producer).set(max(0, word.sequence - batch.sequence))
        if word.sequence > batch.sequence:
            await self._heal(batch, word.sequence)
        elif word.sequence < batch.sequence and _age_seconds(word) < FRESH_SECONDS:
            await self._check_known(batch.sequence)

    async def _check_known(self, sequence: int) -> None:
        """The producer attests less than we have: an old word, or a database that was restored without a new epoch."""
        answer = await self._answer(sequence, sequence)
        if not answer.messages and not answer.voids:
            raise GapError(f"{self.producer} does not know its fact {sequence}: was it restored without a new epoch?")

    async def _heal(self, batch: Batch, last: int) -> None:
        first = batch.sequence + 1
        self._log.error("gap", first=first, last=last)
        while batch.sequence < last:
            if len(batch.facts) >= BATCH_FACTS:
                raise _FullError
            before = batch.sequence
            try:
                self._merge(batch, await self._answer(before + 1, last), last)
            finally:
                healed = batch.sequence > before
                batch.gaps.append(Gap(self.producer, before + 1, batch.sequence if healed else last, healed))
            if not healed:
                raise GapError(f"{self.producer} does not have its facts {before + 1}..{last}")

    async def _answer(self, first: int, last: int) -> FactsResent:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._ask(self.producer, first, last)
        except Exception as error:
            self._link.check()
            raise GapError(f"{self.producer} was asked for {first}..{last}: {type(error).__name__} {error}") from error
        if answer.refused:
            raise GapError(f"{self.producer} was asked for {first}..{last}: {answer.refused} {answer.detail}")
        return answer

    def _merge(self, batch: Batch, answer: FactsResent, last: int) -> None:
        for text in answer.messages:
            message = base64.b64decode(text)
            head = head_of(message)
            _skip_voids(batch, answer.voids, last)
            if head.sequence != batch.sequence + 1:
                break
            batch.sequence, batch.epoch = head.sequence, max(head.epoch, batch.epoch)
            if self._wanted is None or head.type in self._wanted:
                batch.facts.append(
                    RawFact(self.producer, head.sequence, head.organization_sequence, head.epoch, message)
                )
        _skip_voids(batch, answer.voids, last)

    def _stand_still(self, problem: str) -> None:
        self._log.error("stream_stands_still", problem=problem)
        self.problem = problem
        self._retry_at = self._clock() + RETRY_SECONDS

    async def done(self, batch: Batch) -> None:
        """The batch is committed: go on from there."""
        self.position = batch.position
        if batch.chunks:
            await self._link.client.credit(self._number, batch.chunks)


def _skip_voids(batch: Batch, voids: Iterable[tuple[int, int]], last: int) -> None:
    for first, end in sorted(voids):
        if first <= batch.sequence + 1 <= end:
            batch.sequence = min(end, last)
            batch.voids += 1


def _age_seconds(word: Attestation) -> float:
    return abs((utc_now() - datetime.fromisoformat(word.attested_at)).total_seconds())


async def read_positions(connection: Any, producers: Iterable[str], reader: str = "") -> dict[str, Position]:
    """Where this service stands with each producer; a new one starts before its first fact.

    `reader` tells two readers of one service apart: each has a place of its own in the same stream.
    """
    streams = {reader + stream_of(producer): producer for producer in producers}
    await connection.execute(
        "insert into fact_offset select unnest($1::text[]), 0, -1, 1 on conflict do nothing", list(streams)
    )
    rows: list[asyncpg.Record] = await connection.fetch(
        "select stream, sequence, stream_offset, epoch from fact_offset where stream = any ($1)", list(streams)
    )
    return {streams[row["stream"]]: Position(row["sequence"], row["stream_offset"], row["epoch"]) for row in rows}


async def advance(connection: Any, moves: Iterable[tuple[str, Position, Position]], reader: str = "") -> None:
    """Compare and set each producer's offset (before, after), first in the transaction; TakenOverError when stale."""
    rows = [
        (reader + stream_of(name), old.sequence, new.sequence, new.offset, new.epoch)
        for name, old, new in sorted(moves)
    ]
    done = await connection.execute(_ADVANCE, *map(list, zip(*rows, strict=True)))
    if done != f"UPDATE {len(rows)}":
        raise TakenOverError("another process has moved an offset")
