from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest
from libs.spine.tests.stage import (
    Stage,
    Thing,
    delete_stream,
    drop_database,
    happened,
    make_database,
    make_stage,
    until,
    with_role,
)

from chassis import migration
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.chassis import FactsResent
from remit_local.testing import Servers
from spine.fact_message import Attestation, RawFact
from spine.facts import FactLoop, on
from spine.outbox import Connection
from spine.reading import Gap
from spine.sink import SinkLoop

pytestmark = pytest.mark.anyio

ENTRY = """create table entry (stored bigint generated always as identity, producer text, sequence bigint, organization_sequence bigint,
organization_id uuid, type text, body bytea check (position('poison' in convert_from(body, 'utf8')) = 0), primary key (producer, sequence))"""


@dataclass
class CopyingSink:
    notes: list[Attestation | Gap] = field(default_factory=list)

    async def store(self, connection: Connection, facts: Sequence[RawFact]) -> None:
        rows = [(f.producer, f.sequence, f.organization_sequence, f.organization_id, f.type, f.body) for f in facts]
        columns = ["producer", "sequence", "organization_sequence", "organization_id", "type", "body"]
        await connection.copy_records_to_table("entry", records=rows, columns=columns)

    async def note(self, connection: Connection, notes: Sequence[Attestation | Gap]) -> None:
        self.notes += notes


@dataclass
class Hall:
    """An auditor with an ingest role, and two producers."""

    name: str
    first: Stage
    second: Stage
    sink: CopyingSink

    @property
    def dsn(self) -> str:
        return with_role(self.first.servers.postgres_url, f"remit_{self.name}_ingest", migration.role(self.name))

    def loop(self) -> SinkLoop:
        async def ask(producer: str, first: int, last: int) -> FactsResent:
            stage = self.first if producer == self.first.producer else self.second
            return await stage.ask(producer, first, last)

        return SinkLoop(
            self.name,
            [self.first.producer, self.second.producer],
            self.sink,
            dsn=self.dsn,
            place=self.first.place,
            ask=ask,
        )

    async def stored(self, stage: Stage) -> list[int]:
        rows = await self.first.sql(
            self.name, "select sequence from entry where producer = $1 order by stored", stage.producer
        )
        return [row["sequence"] for row in rows]


@pytest.fixture
async def hall(servers: Servers, anyio_backend: object) -> AsyncIterator[Hall]:
    name = f"a{new_id().hex[-10:]}"
    ingest = f"remit_{name}_ingest"
    await make_database(servers.postgres_url, name, ENTRY, f"grant insert on entry to {ingest}", sinks=[ingest])
    async with make_stage(servers) as first, make_stage(servers) as second:
        yield Hall(name, first, second, CopyingSink())
        await first.close()
    await drop_database(servers.postgres_url, name, ingest)


async def both_published(hall: Hall, wanted: int) -> None:
    for stage in (hall.first, hall.second):

        async def published(stage: Stage = stage) -> bool:
            return await stage.value(stage.producer, "select max(confirmed) from fact_head") == wanted

        await until(published)


async def test_one_writer_takes_all_producers_and_quarantines_what_no_table_takes(hall: Hall) -> None:
    for stage in (hall.first, hall.second):
        fact = happened(stage.producer)
        await stage.emit(fact, range(60), [new_id(), new_id()])
        await stage.emit(fact, [60], [new_id()], problem="poison")
        await stage.emit(fact, range(61, 100), [new_id()])
        stage.start(stage.relay().run())
    await both_published(hall, 100)
    loops = [hall.loop(), hall.loop()]
    for loop in loops:
        hall.first.start(loop.run())

    async def all_there() -> bool:
        return await hall.first.value(hall.name, "select count(*) from entry") == 198

    await until(all_there)
    wanted = [*range(1, 61), *range(62, 101)]
    assert await hall.stored(hall.first) == wanted
    assert await hall.stored(hall.second) == wanted
    foreign = "select count(*) from entry where type not like producer || '.%'"
    assert await hall.first.value(hall.name, foreign) == 0
    parked = await hall.first.sql(hall.name, "select sequence from parked_fact")
    assert [row["sequence"] for row in parked] == [61, 61]

    async def attested() -> bool:
        return any(isinstance(note, Attestation) for note in hall.sink.notes)

    await until(attested)
    ingest = await asyncpg.connect(hall.dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ingest.execute("select * from entry")
    await ingest.close()


async def test_a_gap_of_one_producer_does_not_hold_up_the_other(hall: Hall) -> None:
    for stage in (hall.first, hall.second):
        await stage.emit(happened(stage.producer), range(10), [new_id()])
    relay = hall.first.start(hall.first.relay().run())
    hall.second.start(hall.second.relay().run())
    await both_published(hall, 10)
    relay.cancel()
    await delete_stream(hall.first)
    held = await hall.first.sql(hall.first.producer, "select * from fact_log where sequence between 4 and 6")
    await hall.first.sql(hall.first.producer, "delete from fact_log where sequence between 4 and 6")
    hall.first.start(hall.first.relay().run())
    loop = hall.loop()
    hall.first.start(loop.run())

    async def second_there() -> bool:
        return len(await hall.stored(hall.second)) == 10 and "4..6" in loop.state["problem"]

    await until(second_there)
    assert await hall.stored(hall.first) == [1, 2, 3]
    assert Gap(hall.first.producer, 4, 6, healed=False) in hall.sink.notes
    connection = await hall.first.superuser(hall.first.producer)
    await connection.copy_records_to_table("fact_log", records=[tuple(row) for row in held])
    await connection.close()

    async def first_there() -> bool:
        return len(await hall.stored(hall.first)) == 10

    await until(first_there)
    assert await hall.stored(hall.first) == list(range(1, 11))
    assert Gap(hall.first.producer, 4, 6, healed=True) in hall.sink.notes


async def test_the_services_own_consumers_take_nothing_from_the_one_writer(hall: Hall) -> None:
    producer, fact = hall.first.producer, happened(hall.first.producer)
    heard: list[int] = []

    async def hear(uow: UnitOfWork, fact: Thing) -> None:
        heard.append(fact.number)

    hall.first.start(hall.first.relay().run())
    consumers = FactLoop(
        hall.name,
        producer,
        [on(fact)(hear)],
        units=hall.first.units(hall.name),
        place=hall.first.place,
        ask=hall.first.ask,
    )
    hall.first.start(consumers.run())
    for first in range(0, 60, 20):
        await hall.first.emit(fact, range(first, first + 20), [new_id()])

        async def both_there(first: int = first) -> bool:
            wanted = first + 20
            return len(heard) == wanted and (first == 0 or len(await hall.stored(hall.first)) == wanted)

        await until(both_there)
        if first == 0:  # the consumers are ahead before the writer begins
            await hall.second.emit(happened(hall.second.producer), range(1), [new_id()])
            hall.second.start(hall.second.relay().run())
            hall.first.start(hall.loop().run())
    assert sorted(heard) == list(range(60))
    assert await hall.stored(hall.first) == list(range(1, 61))
    places = await hall.first.sql(hall.name, "select stream from fact_offset where stream like '%' || $1", producer)
    assert len(places) == 2
