"""Facts from outbox to stored row, against COPY of the same rows alone; and how long one fact takes at 50/s.

Relay and sink are processes of their own, forked with their imports done, as `remit up --processes` starts them. The
clock of the drain starts before the relay connects and ends when the last row is committed. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncpg
import uvloop
from libs.spine.tests.stage import Stage, delete_stream, drop_database, happened, make_database, with_role

from chassis import migration
from chassis.caller import Caller
from chassis.ids import new_id
from contracts.chassis import FactsResent
from contracts.envelope import wrap
from remit_local.testing import Servers
from spine.fact_message import Attestation, RawFact
from spine.outbox import Connection, Notifier
from spine.reading import Batch, Gap, Position, Reader
from spine.sink import SinkLoop
from spine.stream import StreamPlace
from spine.topology import declare_topology

FACTS, REPEATS, BODY_BYTES, COPY_ROWS = 20_000, 3, 1024, 4000
LATENCY_FACTS, PER_SECOND = 300, 50
COLUMNS = ["producer", "sequence", "organization_sequence", "id", "organization_id", "type", "body"]
ENTRY = """create table entry (producer text, sequence bigint, organization_sequence bigint, id uuid primary key,
organization_id uuid, type text, body bytea)"""
ORGANIZATIONS = [new_id() for _ in range(20)]


class CopySink:
    """Stores by COPY and nothing else."""

    async def store(self, connection: Connection, facts: Sequence[RawFact]) -> None:
        rows = [
            (f.producer, f.sequence, f.organization_sequence, f.id, f.organization_id, f.type, f.body) for f in facts
        ]
        await connection.copy_records_to_table("entry", records=rows, columns=COLUMNS)

    async def note(self, _connection: Connection, _notes: Sequence[Attestation | Gap]) -> None:
        return


class TimedLoop(SinkLoop):
    """Says which facts were committed when."""

    report: Any

    async def _commit(
        self, database: Connection, saved: Mapping[str, Position], batches: Mapping[Reader, Batch]
    ) -> None:
        await super()._commit(database, saved, batches)
        now, ids = time.time(), [str(fact.id) for batch in batches.values() for fact in batch.facts]
        self.report.send((now, ids))


async def nobody(producer: str, first: int, last: int) -> FactsResent:
    raise RuntimeError(f"asked for {producer} {first}..{last}")


def bodies(fact: Any, count: int) -> list[tuple[UUID, str, UUID, bytes]]:
    made = []
    for number in range(count):
        fact_id, organization_id = new_id(), ORGANIZATIONS[number % len(ORGANIZATIONS)]
        body = wrap(
            fact(number=number, problem="x" * 500), fact_id=fact_id, source="bench", time=time_zero(),
            organization_id=organization_id, actor_type="system", actor_id="bench", traceparent="",
        )  # fmt: skip
        padded = wrap(
            fact(number=number, problem="x" * (500 + BODY_BYTES - len(body))), fact_id=fact_id, source="bench",
            time=time_zero(), organization_id=organization_id, actor_type="system", actor_id="bench", traceparent="",
        )  # fmt: skip
        made.append((fact_id, fact.type, organization_id, padded))
    return made


def time_zero() -> Any:
    from chassis.clock import utc_now

    return utc_now()


def show(name: str, value: float, unit: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit}), flush=True)


@contextmanager
def in_process(work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run a loop in a forked process until the block ends."""
    child = multiprocessing.get_context("fork").Process(target=lambda: uvloop.run(work()), daemon=True)
    child.start()
    try:
        yield
    finally:
        child.kill()
        child.join()


@contextmanager
def find_servers() -> Iterator[Servers]:
    names = ("REMIT_TEST_POSTGRES_URL", "REMIT_TEST_AMQP_URL", "REMIT_TEST_STREAM_URL")
    if os.environ.get(names[0]):
        yield Servers(*(os.environ[name] for name in names))
        return
    from remit_local.postgres import Postgres
    from remit_local.rabbitmq import RabbitMQ

    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        postgres, rabbitmq = Postgres(Path(folder) / "postgres"), RabbitMQ(Path(folder) / "rabbitmq")
        try:
            postgres.start()
            rabbitmq.start()
            yield Servers(postgres.superuser_url, rabbitmq.amqp_url, rabbitmq.stream_url)
        finally:
            rabbitmq.kill()
            postgres.kill()


class Bench:
    """One producer, one audit-like consumer."""

    def __init__(self, servers: Servers) -> None:
        name = new_id().hex[-8:]
        self.stage = Stage(servers, f"p{name}", f"a{name}", StreamPlace.parse(servers.stream_url))
        self.ingest = f"remit_{self.stage.consumer}_ingest"
        self.fact = happened(self.stage.producer)
        self.drained = 0
        database = migration.role(self.stage.consumer)
        self.sink_dsn = with_role(servers.postgres_url, self.ingest, database)

    async def make(self) -> None:
        url = self.stage.servers.postgres_url
        await make_database(url, self.stage.producer)
        rights = f"grant insert, select, truncate on entry to {self.ingest}"
        await make_database(url, self.stage.consumer, ENTRY, rights, sinks=[self.ingest])
        await declare_topology(self.stage.servers.amqp_url, {self.stage.producer: []})

    async def drop(self) -> None:
        await delete_stream(self.stage)
        await drop_database(self.stage.servers.postgres_url, self.stage.producer)
        await drop_database(self.stage.servers.postgres_url, self.stage.consumer, self.ingest)

    async def relay(self) -> None:
        await self.stage.relay().run()

    async def sink(self) -> None:
        await self.loop(SinkLoop).run()

    def loop(self, kind: type[SinkLoop]) -> SinkLoop:
        stage = self.stage
        return kind(stage.consumer, [stage.producer], CopySink(), dsn=self.sink_dsn, place=stage.place, ask=nobody)

    async def drain(self) -> tuple[float, float]:
        """Facts/s from the relay's start, and from the first stored row."""
        await self.fill(FACTS)
        watch = await self.stage.superuser(self.stage.consumer)
        with in_process(self.sink):
            await asyncio.sleep(2)
            start = time.perf_counter()
            with in_process(self.relay):
                first = 0.0
                # The offset commits with the rows, and looking at it costs nothing.
                while (done := await watch.fetchval("select sum(sequence) from fact_offset") - self.drained) < FACTS:
                    first = first or (time.perf_counter() if done else 0.0)
                    await asyncio.sleep(0.01)
                end = time.perf_counter()
        await watch.close()
        self.drained += FACTS
        return FACTS / (end - start), FACTS / (end - (first or start))

    async def fill(self, count: int) -> None:
        connection = await self.stage.superuser(self.stage.producer)
        await connection.copy_records_to_table(
            "outbox", records=bodies(self.fact, count), columns=["id", "type", "organization_id", "body"]
        )
        await connection.close()

    async def copy_alone(self) -> float:
        rows = [
            ("copy", number, number, fact_id, organization_id, kind, body)
            for number, (fact_id, kind, organization_id, body) in enumerate(bodies(self.fact, FACTS))
        ]
        connection = await asyncpg.connect(self.sink_dsn)
        start = time.perf_counter()
        for at in range(0, FACTS, COPY_ROWS):
            await connection.copy_records_to_table("entry", records=rows[at : at + COPY_ROWS], columns=COLUMNS)
        end = time.perf_counter()
        await connection.execute("truncate entry")
        await connection.close()
        return FACTS / (end - start)

    async def latency(self) -> list[float]:
        """Milliseconds from one fact's commit to its stored row's commit, between three processes."""
        receive, report = multiprocessing.Pipe(duplex=False)

        async def sink() -> None:
            loop = self.loop(TimedLoop)
            loop.report = report  # type: ignore[attr-defined]
            await loop.run()

        units = self.stage.units(self.stage.producer)
        notifier = Notifier(units.engine)
        units.wake_relay = notifier.wake
        committed: dict[str, float] = {}
        with in_process(sink), in_process(self.relay):
            await asyncio.sleep(2)
            start = time.perf_counter()
            for number in range(LATENCY_FACTS):
                await asyncio.sleep(max(0, start + number / PER_SECOND - time.perf_counter()))
                async with units.begin(Caller.system(ORGANIZATIONS[0], "bench")) as uow:
                    fact_id = uow.emit(self.fact(number=number, problem="x" * 600))
                committed[str(fact_id)] = time.time()
            stored: dict[str, float] = {}
            while not committed.keys() <= stored.keys():
                while receive.poll():
                    at, ids = receive.recv()
                    stored |= dict.fromkeys(ids, at)
                await asyncio.sleep(0.05)
        await notifier.close()
        await units.engine.dispose()
        warm = list(committed.items())[LATENCY_FACTS // 10 :]
        return sorted((stored[fact_id] - at) * 1000 for fact_id, at in warm)


async def run(servers: Servers) -> None:
    bench = Bench(servers)
    await bench.make()
    try:
        drains, firsts, copies = [], [], []
        for _ in range(REPEATS):
            copies.append(await bench.copy_alone())
            drained, from_first = await bench.drain()
            drains.append(drained)
            firsts.append(from_first)
            await bench.stage.sql(bench.stage.consumer, "truncate entry")
        drain, copy = statistics.median(drains), statistics.median(copies)
        show("facts_copy_alone", copy, "facts/s")
        show("facts_drain_from_relay_start", drain, "facts/s")
        show("facts_drain_from_first_row", statistics.median(firsts), "facts/s")
        show("facts_drain_over_copy", drain / copy, "ratio")
        waits = await bench.latency()
        show("facts_commit_to_stored_p50", waits[len(waits) // 2], "ms")
        show("facts_commit_to_stored_p99", waits[int(len(waits) * 0.99)], "ms")
    finally:
        await bench.drop()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with find_servers() as found:
        uvloop.run(run(found))
