"""Facts from a service's outbox to entries that audit shows, on the real tables of both.

Relay and writer are processes of their own. The writer reads the streams of all six services, as audit does, and has
been listening when the relay starts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from bench.entries import COLUMNS, full_row, make_facts
from bench.facts import PER_SECOND, TimedLoop, in_process, nobody
from bench.spine.lines import show
from services.audit.tests.factories import completed

import audit
import execution
from audit.usecases.ingest import EntrySink
from chassis.auth import Signer, Trust, write_keys
from chassis.caller import Caller
from chassis.db import create_engine
from chassis.ids import new_id
from chassis.migrate import migrations_of
from chassis.settings import ServiceSettings
from chassis.uow import Units
from contracts.catalog import SERVICES
from remit_local.testing import Servers
from spine.fact_message import RawFact
from spine.outbox import Notifier, Relay
from spine.sink import SinkLoop
from spine.stream import StreamPlace
from spine.testing.databases import Database, address, clone
from spine.testing.stage import settings_for
from spine.topology import declare_topology

RETENTION_CLASS, WARM_SECONDS = 365, 2.0
OUTBOX = ("id", "type", "organization_id", "traceparent", "body")
DONE = "select coalesce(sum(sequence), 0)::bigint from fact_offset"
"""Commits with the entries, and looking at it costs nothing."""


@dataclass
class Line:
    """A producer's and audit's database with what runs between them."""

    producer: Database
    audit: Database
    place: StreamPlace
    keys: Path
    done: int = 0

    async def relay(self) -> None:
        signer = Signer.read(self.keys / "execution.attest.pem")
        await Relay("execution", self.producer.url("relay"), self.place, signer).run()

    def writer(self, kind: type[SinkLoop] = SinkLoop) -> SinkLoop:
        sink, trust = EntrySink(RETENTION_CLASS), Trust.read(self.keys / "trust.json")
        return kind("audit", SERVICES, sink, dsn=self.audit.url("ingest"), place=self.place, ask=nobody, trust=trust)

    async def write(self) -> None:
        await self.writer().run()

    async def empty(self) -> None:
        """No entries, and no dirty pages of those before."""
        connection = await asyncpg.connect(address(self.audit.superuser_url, self.audit.name))
        await connection.execute("set session_replication_role = replica")
        await connection.execute("truncate entry")
        await connection.execute("checkpoint")
        await connection.close()


@asynccontextmanager
async def make_line(servers: Servers) -> AsyncIterator[Line]:
    """Both services' databases as their migrations leave them, and the streams."""
    url = servers.postgres_url
    await declare_topology(servers.amqp_url, dict.fromkeys(SERVICES, ()))
    with tempfile.TemporaryDirectory(prefix="remit-keys-") as folder:
        write_keys(Path(folder), dict.fromkeys(SERVICES, ("attest",)))
        async with (
            clone(url, "execution", migrations_of(execution)) as producer,
            clone(url, "audit", migrations_of(audit), ["ingest"]) as entries,
        ):
            yield Line(producer, entries, StreamPlace.parse(servers.stream_url), Path(folder))


async def copy_alone(line: Line, facts: Sequence[RawFact]) -> float:
    """Rows a second of one COPY of the finished rows into the leaf, with its indexes."""
    rows = [full_row(fact, number) for number, fact in enumerate(facts)]
    leaf = f"entry_{RETENTION_CLASS}_{datetime.now(UTC):%Y%m}"
    await line.empty()
    async with line.audit.connect("ingest") as connection:
        started = time.perf_counter()
        await connection.copy_records_to_table(leaf, records=rows, columns=COLUMNS)
        taken = time.perf_counter() - started
    await line.empty()
    return len(rows) / taken


async def drain(line: Line, facts: Sequence[RawFact]) -> float:
    """Facts a second from the relay's start to the commit that shows the last entry."""
    rows = [(fact.id, fact.type, fact.organization_id, fact.traceparent, fact.body) for fact in facts]
    outbox = await asyncpg.connect(address(line.producer.superuser_url, line.producer.name))
    await outbox.copy_records_to_table("outbox", records=rows, columns=OUTBOX)
    await outbox.close()
    watch = await asyncpg.connect(address(line.audit.superuser_url, line.audit.name))
    with in_process(line.write):
        await asyncio.sleep(WARM_SECONDS)
        started = time.perf_counter()
        with in_process(line.relay):
            while await watch.fetchval(DONE) - line.done < len(facts):  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.01)
            taken = time.perf_counter() - started
    stored = await watch.fetchval("select count(*) from entry")
    await watch.close()
    if stored != len(facts):
        raise SystemExit(f"{len(facts)} facts were committed and {stored} entries are stored")
    line.done += len(facts)
    return len(facts) / taken


async def latency(line: Line, count: int) -> list[float]:
    """Milliseconds from a fact's commit to its entry's, sorted: PER_SECOND units of work of one fact each."""
    receive, report = multiprocessing.Pipe(duplex=False)

    async def write() -> None:
        loop = line.writer(TimedLoop)
        loop.report = report  # type: ignore[attr-defined]
        await loop.run()

    engine = create_engine(line.producer.url(), name="bench", pool_size=3, statement_timeout=20, lock_timeout=5)
    notifier = Notifier(engine)
    units = Units(engine, settings_for(ServiceSettings, line.producer), notifier.wake)
    with in_process(write), in_process(line.relay):
        await asyncio.sleep(WARM_SECONDS)
        committed = await commit_evenly(units, count)
        stored = await gather(receive, committed)
    await notifier.close()
    await engine.dispose()
    line.done += count
    warm = list(committed.items())[count // 10 :]
    return sorted((stored[fact_id] - at) * 1000 for fact_id, at in warm)


async def commit_evenly(units: Units, count: int) -> dict[str, float]:
    """When each fact was committed, by its id."""
    committed, organizations = {}, [new_id() for _ in range(20)]
    started = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0, started + number / PER_SECOND - time.perf_counter()))
        async with units.begin(Caller.system(organizations[number % 20], "bench")) as uow:
            fact_id = uow.emit(completed(owner_id=str(new_id()), stop_reason="x" * 600))
        committed[str(fact_id)] = time.time()
    return committed


async def gather(receive: Any, wanted: dict[str, float]) -> dict[str, float]:
    """When each of these was stored, by its id, as the writer reports it."""
    stored: dict[str, float] = {}
    async with asyncio.timeout(30):
        while not wanted.keys() <= stored.keys():
            while receive.poll():
                at, ids = receive.recv()
                stored |= dict.fromkeys(ids, at)
            await asyncio.sleep(0.02)
    return stored


async def measure_facts(servers: Servers, *, rounds: int, facts: int, timed: int) -> None:
    """The drain and COPY in turns, then how long one fact takes."""
    copies, drains, waits = [], [], []
    async with make_line(servers) as line:
        for _ in range(rounds):
            made = make_facts(facts)
            copies.append(await copy_alone(line, made))
            drains.append(await drain(line, made))
        for _ in range(rounds):
            waits.append(await latency(line, timed))
    size = len(made[0].body)
    show("facts_per_s", drains, "facts/s", facts=facts, bytes=size)
    show("facts_copy_per_s", copies, "rows/s")
    ratios = [drained / copied for drained, copied in zip(drains, copies, strict=True)]
    show("facts_vs_copy", ratios, "ratio", aim=">= 0.2")
    show("commit_to_audited_p50_ms", [each[len(each) // 2] for each in waits], "ms", per_second=PER_SECOND)
    show("commit_to_audited_p99_ms", [each[int(len(each) * 0.99)] for each in waits], "ms", aim="<= 25")
