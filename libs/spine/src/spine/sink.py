"""One writer for all producers' facts: raw bytes and numbers, one transaction, every offset compared. For audit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import asyncpg

from chassis.auth import Trust
from chassis.telemetry import FACTS_APPLIED, FACTS_PARKED
from spine.fact_message import Attestation, RawFact
from spine.facts import BUSY_FACTS, SAVE_SECONDS, wait_for
from spine.parking import Parking, StopError, park
from spine.reading import Ask, Batch, Gap, Position, Reader, TakenOverError, advance, read_positions
from spine.stream import Link, LostError, StreamPlace, keep_running, stream_of

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PACE_SECONDS = 0.05
SINK = "sink."
"""Before a stream's name: the place of the one writer, beside that of the service's own consumers of the stream."""


class RawSink(Protocol):
    """Where facts of all producers are stored."""

    async def store(self, connection: Connection, facts: Sequence[RawFact]) -> None:
        """Store these facts, each producer's in order; all or none. May be called again with fewer after an error."""

    async def note(self, connection: Connection, notes: Sequence[Attestation | Gap]) -> None:
        """What else was seen, in the same transaction: how far producers attest, which numbers were missing."""


class SinkLoop:
    """Feeds one sink from all producers under its own role. A lock picks one of many, the offsets fence the rest."""

    def __init__(
        self, service: str, producers: Sequence[str], sink: RawSink, *, dsn: str, place: StreamPlace, ask: Ask,
        trust: Trust | None = None,
    ) -> None:  # fmt: skip
        self.service, self.producers = service, tuple(producers)
        self._sink, self._dsn, self._place, self._ask, self._trust = sink, dsn, place, ask, trust
        self._parking = Parking()
        self._readers: list[Reader] = []
        self.problem = "starting"

    @property
    def state(self) -> Mapping[str, Any]:
        """For health: how far it came with each producer, and what holds it up (empty: nothing)."""
        problems = [self.problem, *(reader.problem for reader in self._readers)]
        return {
            "sequence": {reader.producer: reader.position.sequence for reader in self._readers},
            "problem": "; ".join(filter(None, problems)),
        }

    async def run(self) -> None:
        """Store facts until cancelled."""
        await keep_running(self._life, f"{self.service}.sink", pause=self._pause)

    def _pause(self, error: Exception) -> float:
        self.problem = f"{type(error).__name__}: {error}"[:200]
        return 0.2 if isinstance(error, LostError) else 2 if isinstance(error, (StopError, TakenOverError)) else 1

    async def _life(self) -> None:
        stir, clock = asyncio.Event(), asyncio.get_running_loop().time
        streams = tuple(stream_of(producer) for producer in self.producers)
        name = f"remit {self.service} sink"
        async with Link(self._place, name, streams, dsn=self._dsn, lock=f"sink:{self.service}") as link:
            saved = await read_positions(link.database, self.producers, SINK)
            self._readers = [
                Reader(link, self.service, producer, saved[producer], self._ask,
                       stir=stir, trust=self._trust, number=number)
                for number, producer in enumerate(self.producers)
            ]  # fmt: skip
            for reader in self._readers:
                await reader.start()
            saved_at, self.problem = clock(), ""
            while True:
                link.check()
                stir.clear()
                batches = {reader: await reader.take() for reader in self._readers}
                if any(map(_worth_saving, batches.values())) or clock() - saved_at > SAVE_SECONDS:
                    await self._commit(link.database, saved, batches)
                    saved |= {reader.producer: batch.position for reader, batch in batches.items()}
                    saved_at = clock()
                for reader, batch in batches.items():
                    await reader.done(batch)
                if sum(len(batch.facts) for batch in batches.values()) in BUSY_FACTS:
                    await asyncio.sleep(saved_at + PACE_SECONDS - clock())
                if not any(batch.chunks for batch in batches.values()):
                    await wait_for(stir)
                    # The lock's session ends when it idles for 10 s.
                    await link.database.execute("select")

    async def _commit(
        self, database: Connection, saved: Mapping[str, Position], batches: Mapping[Reader, Batch]
    ) -> None:
        facts = [fact for batch in batches.values() for fact in batch.facts]
        notes: list[Attestation | Gap] = []
        for batch in batches.values():
            notes += [*batch.attestations[-1:], *batch.gaps]
        moves = [
            (reader.producer, saved[reader.producer], batch.position)
            for reader, batch in batches.items()
            if batch.position != saved[reader.producer]
        ]

        async def store(careful: bool) -> None:  # noqa: FBT001
            async with database.transaction():
                if moves:
                    await advance(database, moves, SINK)
                if careful:
                    await self._parking.apply(
                        facts, partial(self._store_whole, database), partial(park, database, reader=SINK)
                    )
                elif facts:
                    await self._sink.store(database, facts)
                if notes:
                    await self._sink.note(database, notes)

        await self._parking.commit(facts, store)
        for reader, batch in batches.items():
            FACTS_APPLIED.labels(self.service, reader.producer).inc(len(batch.facts))
        if self._parking.parked:
            FACTS_PARKED.labels(self.service, "").inc(self._parking.parked)

    async def _store_whole(self, database: Connection, facts: Sequence[RawFact]) -> None:
        async with database.transaction():
            await self._sink.store(database, facts)


def _worth_saving(batch: Batch) -> bool:
    return bool(batch.facts or batch.attestations or batch.gaps)
