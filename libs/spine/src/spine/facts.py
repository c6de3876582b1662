"""Consuming facts: `@on(Fact)` handlers, and the loop that applies one producer's facts here, once and in order."""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any
from uuid import UUID

from sqlalchemy import literal
from sqlalchemy.dialects.postgresql import insert

from chassis.auth import Trust
from chassis.caller import NOBODY, Caller
from chassis.db import Row, begin
from chassis.telemetry import FACTS_APPLIED, FACTS_PARKED, batch_span, logger, span
from chassis.uow import UnitOfWork, Units
from contracts.envelope import Envelope, Fact
from spine.fact_message import RawFact, head_of
from spine.parking import Parking, StopError, park
from spine.reading import Ask, Batch, GapError, Position, Reader, TakenOverError, advance, read_positions
from spine.stream import Link, LostError, StreamPlace, keep_running, stream_of

AskRestate = Callable[[str, str], Awaitable[object]]
"""Ask a producer to publish its current rows of a noun again."""

_OLDEST_PARKED = """
update parked_fact set resolved_at = now() where stream = $1 and sequence = (
  select min(sequence) from parked_fact where stream = $1 and resolved_at is null) and resolved_at is null
returning message"""
SAVE_SECONDS = 30
TICK_SECONDS = 1
BUSY_FACTS = range(16, 256)
"""A batch of so many says that more are coming: a transaction costs as much as thirty facts, and waiting fills it."""
PACE_SECONDS = 0.1
"""From one transaction to the next where the batches are such; a lone fact is never delayed."""


@dataclass(frozen=True, slots=True)
class ReceivedFact:
    """One fact, decoded: what batch handlers get."""

    fact: Fact
    envelope: Envelope
    producer: str
    sequence: int
    organization_sequence: int
    epoch: int


@dataclass(frozen=True)
class Handler:
    """What happens here when one of these facts happened there."""

    facts: tuple[type[Fact], ...]
    call: Callable[..., Awaitable[None]]
    batch: bool
    wants_envelope: bool


def on(*facts: type[Fact], batch: bool = False) -> Callable[[Callable[..., Awaitable[None]]], Handler]:
    """Declare `async def name(uow, fact)` or `(uow, fact, envelope)` as what follows from each of these facts.

    With `batch`: `async def name(uow, facts: Sequence[ReceivedFact])`, called once per organization after the batch's
    other handlers, under the service's or the batch role. Facts arrive at least in the order of their organization.
    """

    def declare(call: Callable[..., Awaitable[None]]) -> Handler:
        return Handler(facts, call, batch, wants_envelope=len(inspect.signature(call).parameters) > 2)

    return declare


def handlers_in(*modules: ModuleType) -> list[Handler]:
    """Every handler that these modules declare, in their order."""
    return [value for module in modules for value in vars(module).values() if isinstance(value, Handler)]


async def project(
    uow: UnitOfWork, row: type[Row], key: Mapping[str, Any], version: int, values: Mapping[str, Any]
) -> bool:
    """Insert or overwrite a projection's row, unless it already shows this version or a higher one; True if it did.

    A replayed or restated fact therefore never sets anything back. The row has a column `version`.
    """
    table = row.__table__
    statement = insert(row).values(**key, **values, version=version)
    changed = await uow.execute(
        statement.on_conflict_do_update(
            index_elements=list(key), set_={**values, "version": version}, where=table.c.version < version
        ).returning(literal(1))
    )
    return bool(changed)


def _received(raw: RawFact, contract: type[Fact]) -> ReceivedFact:
    envelope = Envelope.parse(raw.body)
    fact = contract.model_validate(envelope.data)
    return ReceivedFact(fact, envelope, raw.producer, raw.sequence, raw.organization_sequence, raw.epoch)


def _causing(service: str, raw: RawFact, envelope: Envelope) -> Caller:
    return Caller(
        raw.organization_id, "system", f"{service}.facts", traceparent=raw.traceparent,
        correlation_id=envelope.correlation_id, causation_id=str(raw.id),
    )  # fmt: skip


class FactLoop:
    """Applies what one producer publishes. Any number may race: each commits by comparing and setting the offset."""

    def __init__(
        self, service: str, producer: str, handlers: Iterable[Handler], *, units: Units, place: StreamPlace, ask: Ask,
        ask_restate: AskRestate | None = None, trust: Trust | None = None,
    ) -> None:  # fmt: skip
        self.service, self.producer = service, producer
        self._units, self._place, self._ask, self._ask_restate, self._trust = units, place, ask, ask_restate, trust
        self._handlers: dict[str, list[Handler]] = defaultdict(list)
        self._contracts: dict[str, type[Fact]] = {}
        for handler in handlers:
            for contract in handler.facts:
                if contract.type.startswith(f"{producer}."):
                    self._handlers[contract.type].append(handler)
                    self._contracts[contract.type] = contract
        self._parking = Parking([name for name, contract in self._contracts.items() if contract.security])
        self._to_restate: set[str] = set()
        self._reader: Reader | None = None
        self.attested_at = ""
        self.problem = "starting"
        self._log = logger(service=service, producer=producer)

    @property
    def nouns(self) -> frozenset[str]:
        """What of the producer is projected here: each noun whose restatement is handled."""
        return frozenset(c.noun() for c in self._contracts.values() if c.type.split(".")[2] == "restated")

    @property
    def state(self) -> dict[str, Any]:
        """For health: how far it came, when the producer last attested, and what holds it up (empty: nothing)."""
        sequence = self._reader.position.sequence if self._reader else 0
        problem = self.problem or (self._reader.problem if self._reader else "")
        return {
            "producer": self.producer, "sequence": sequence, "attested_at": self.attested_at, "problem": problem,
        }  # fmt: skip

    async def run(self) -> None:
        """Apply facts until cancelled."""
        await keep_running(self._life, f"{self.service}.facts.{self.producer}", pause=self._pause)

    def _pause(self, error: Exception) -> float:
        self.problem = f"{type(error).__name__}: {error}"[:200]
        if isinstance(error, LostError):
            return 0.2
        return 2 if isinstance(error, (StopError, TakenOverError, GapError)) else 1

    async def _life(self) -> None:
        async with begin(self._units.engine, None) as (_, raw):
            saved = (await read_positions(raw, [self.producer]))[self.producer]
            await raw.execute("commit")
        stir, clock = asyncio.Event(), asyncio.get_running_loop().time
        name = f"remit {self.service} facts"
        async with Link(self._place, name, (stream_of(self.producer),)) as link:
            wanted = frozenset(name.encode() for name in self._contracts)
            reader = self._reader = Reader(
                link, self.service, self.producer, saved, self._ask, stir=stir, wanted=wanted, trust=self._trust
            )
            await reader.start()
            saved_at, self.problem = clock(), ""
            while True:
                link.check()
                stir.clear()
                batch = await reader.take()
                self._notice(batch)
                if batch.facts or (batch.position != saved and clock() - saved_at > SAVE_SECONDS):
                    await self._commit(batch, saved)
                    saved, saved_at = batch.position, clock()
                await reader.done(batch)
                await self._restate()
                if len(batch.facts) in BUSY_FACTS:
                    await asyncio.sleep(saved_at + PACE_SECONDS - clock())
                if not batch.chunks:
                    await wait_for(stir)

    def _notice(self, batch: Batch) -> None:
        if batch.attestations:
            self.attested_at = batch.attestations[-1].attested_at
        if batch.voids:
            self._to_restate |= self.nouns

    async def _commit(self, batch: Batch, saved: Position) -> None:
        try:
            await self._store(batch.facts, saved, batch.position)
        except StopError as stop:
            # What comes before it is good, and must not wait for somebody to solve this.
            before = [fact for fact in batch.facts if fact.sequence < stop.fact.sequence]
            if before:
                await self._store(before, saved, Position(stop.fact.sequence - 1, saved.offset, stop.fact.epoch))
            raise
        FACTS_APPLIED.labels(self.service, self.producer).inc(len(batch.facts) - self._parking.parked)

    async def _store(self, facts: Sequence[RawFact], saved: Position, position: Position) -> None:
        caller = Caller.system(facts[0].organization_id if facts else NOBODY, f"{self.service}.facts")

        async def store(careful: bool) -> None:  # noqa: FBT001
            async with self._units.begin(caller) as uow:
                # First: the loser of a race must not take the winner's rows for poison.
                await advance(uow._raw, [(self.producer, saved, position)])  # noqa: SLF001
                if careful:
                    await self._parking.apply(facts, partial(self._apply_whole, uow), partial(self._park, uow))
                elif facts:
                    await self._apply(uow, facts)

        await self._parking.commit(facts, store)
        if self._parking.parked:
            FACTS_PARKED.labels(self.service, self.producer).inc(self._parking.parked)

    async def _park(self, uow: UnitOfWork, raw: RawFact, error: Exception) -> None:
        self._log.error("parked", sequence=raw.sequence, type=raw.type, error=type(error).__name__)
        await uow.become(Caller.system(raw.organization_id, f"{self.service}.facts"))
        await park(uow._raw, raw, error)  # noqa: SLF001

    async def _apply_whole(self, uow: UnitOfWork, facts: Sequence[RawFact]) -> None:
        async with uow._savepoint():  # noqa: SLF001
            await self._apply(uow, facts)

    async def _apply(self, uow: UnitOfWork, facts: Sequence[RawFact]) -> None:
        batches: dict[tuple[Handler, UUID], list[ReceivedFact]] = defaultdict(list)
        for raw in facts:
            received = _received(raw, self._contracts[raw.type])
            for handler in self._handlers[raw.type]:
                if handler.batch:
                    batches[handler, raw.organization_id].append(received)
                else:
                    await self._call(uow, handler, raw, received)
        for (handler, organization_id), some in batches.items():
            await uow.become(Caller.system(organization_id, f"{self.service}.facts"))
            setting = f"select set_config('app.organization_ids', '{{{organization_id}}}', true)"
            await uow._raw.execute(setting)  # noqa: SLF001
            traceparents = (one.envelope.traceparent for one in some)
            with batch_span(f"consume {handler.call.__name__}", self.service, traceparents, facts=len(some)):
                await handler.call(uow, some)

    async def _call(self, uow: UnitOfWork, handler: Handler, raw: RawFact, received: ReceivedFact) -> None:
        await uow.become(_causing(self.service, raw, received.envelope))
        with span(f"consume {raw.type}", service=self.service, traceparent=raw.traceparent, sequence=raw.sequence):
            if handler.wants_envelope:
                await handler.call(uow, received.fact, received.envelope)
            else:
                await handler.call(uow, received.fact)

    async def replay(self, organization_id: UUID) -> int:
        """Apply an organization's parked facts of this producer again, oldest first, up to the first that still fails.

        Returns how many went.
        """
        done = 0
        caller = Caller.system(organization_id, f"{self.service}.replay")
        while True:
            async with self._units.begin(caller) as uow:
                row = await uow._raw.fetchrow(_OLDEST_PARKED, stream_of(self.producer))  # noqa: SLF001
                if row is None:
                    return done
                message = row["message"]
                sequence, organization_sequence, epoch, _ = head_of(message)
                await self._apply(uow, [RawFact(self.producer, sequence, organization_sequence, epoch, message)])
            done += 1

    async def _restate(self) -> None:
        """Facts are gone for good: have their producer say how things are now."""
        for noun in sorted(self._to_restate) if self._ask_restate else ():
            try:
                await self._ask_restate(self.producer, noun)  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001  (asked again with the next batch or tick)
                self._log.warning("not_restated", noun=noun, error=f"{type(error).__name__} {error}"[:200])
                return
            self._to_restate.discard(noun)


async def wait_for(stir: asyncio.Event) -> None:
    """Until something arrives, or a second has passed."""
    try:
        async with asyncio.timeout(TICK_SECONDS):
            await stir.wait()
    except TimeoutError:
        return
