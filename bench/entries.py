"""Storing facts as audit entries, against COPY of the same rows alone: into the same partition, and into a bare table.

Private server, the ingest role, batches of 4,000 facts of 1 KB of 20 organizations. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncpg
import uvloop
from services.audit.tests.factories import Producer, completed

from audit.domain.facts import read_fact
from audit.domain.leaves import leaf_hash
from audit.main import build
from audit.settings import Settings
from audit.usecases.ingest import EntrySink
from chassis.ids import new_id
from chassis.telemetry import trace_id
from remit_local.postgres import Postgres
from spine.fact_message import RawFact
from spine.testing.databases import Database, clone
from spine.testing.stage import unstarted

FACTS, BATCH, REPEATS, BODY_BYTES = 20_000, 4000, 5, 1024
COLUMNS = (
    "retention_class", "id", "organization_id", "workspace_id", "occurred_at", "event_type", "resource_type",
    "resource_id", "action", "actor_type", "actor_id", "owner_id", "result", "error_message", "run_id", "trace_id",
    "producer", "epoch", "sequence", "organization_sequence", "leaf_index", "leaf_hash", "body",
)  # fmt: skip
BARE = """create table bare (producer text, sequence bigint, organization_sequence bigint, id uuid primary key,
organization_id uuid, type text, body bytea)"""
BARE_COLUMNS = ("producer", "sequence", "organization_sequence", "id", "organization_id", "type", "body")


def make_facts(count: int = FACTS) -> list[RawFact]:
    """Facts of 1 KB of 20 organizations, numbered as a relay would."""
    producer, organizations, now = Producer(), [new_id() for _ in range(20)], datetime.now(UTC)

    def one(number: int, padding: int) -> RawFact:
        fact = completed(owner_id=str(new_id()), stop_reason="x" * padding)
        return producer.raw(organizations[number % 20], fact, time=now, actor=str(new_id()))

    padding = max(0, BODY_BYTES - len(one(0, 0).body))
    return [one(number, padding) for number in range(count)]


def full_row(fact: RawFact, index: int) -> tuple[Any, ...]:
    body = fact.body
    seen = read_fact(fact.type, body)
    digest = leaf_hash(fact.producer, fact.epoch, fact.sequence, fact.organization_sequence, body)
    return (
        365, fact.id, fact.organization_id, seen.workspace_id, seen.occurred_at, fact.type, seen.resource_type,
        seen.resource_id, seen.action, seen.actor_type, seen.actor_id, seen.owner_id, seen.result, seen.error_message,
        seen.run_id, trace_id(fact.traceparent), fact.producer, fact.epoch, fact.sequence, fact.organization_sequence,
        index, digest, body,
    )  # fmt: skip


def bare_row(fact: RawFact) -> tuple[Any, ...]:
    return (
        fact.producer, fact.sequence, fact.organization_sequence, fact.id, fact.organization_id, fact.type, fact.body
    )  # fmt: skip


async def timed(store: Callable[[Any], Awaitable[Any]], batches: Sequence[Any]) -> float:
    started = time.perf_counter()
    for batch in batches:
        await store(batch)
    return FACTS / (time.perf_counter() - started)


def in_batches(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]


async def empty(database: Database) -> None:
    statement = "set session_replication_role = replica; truncate entry, tree_head, organization_watermark, bare"
    connection = await asyncpg.connect(database.superuser_url.rpartition("/")[0] + f"/{database.name}")
    await connection.execute(statement)
    await connection.execute("checkpoint")
    await connection.close()


async def measure(database: Database) -> None:
    await database.sql(BARE)
    await database.sql("grant insert on bare to remit_audit_ingest")
    facts, sink, leaf = make_facts(), EntrySink(365), f"entry_365_{datetime.now(UTC):%Y%m}"
    full = [full_row(fact, number) for number, fact in enumerate(facts)]
    speeds: dict[str, list[float]] = {"store": [], "full": [], "bare": []}
    async with database.connect("ingest") as connection:

        async def store(batch: Sequence[RawFact]) -> None:
            async with connection.transaction():
                await sink.store(connection, batch)

        async def copy_full(batch: Any) -> None:
            await connection.copy_records_to_table(leaf, records=batch, columns=COLUMNS)

        async def copy_bare(batch: Any) -> None:
            await connection.copy_records_to_table("bare", records=batch, columns=BARE_COLUMNS)

        for _ in range(REPEATS):
            await empty(database)
            speeds["bare"].append(await timed(copy_bare, in_batches([bare_row(fact) for fact in facts])))
            await empty(database)
            speeds["full"].append(await timed(copy_full, in_batches(full)))
            await empty(database)
            cpu = time.process_time()
            speeds["store"].append(await timed(store, in_batches(facts)))
            cpu = time.process_time() - cpu
    best = {name: statistics.median(found) for name, found in speeds.items()}
    show("audit_store", best["store"], "facts/s")
    show("audit_store_python_cpu", cpu / FACTS * 1e6, "us/fact")
    show("audit_copy_same_rows", best["full"], "rows/s")
    show("audit_copy_bare_rows", best["bare"], "rows/s")
    show("audit_store_over_copy_same_rows", best["store"] / best["full"], "ratio")
    show("audit_store_over_copy_bare_rows", best["store"] / best["bare"], "ratio")


def show(name: str, value: float, unit: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit}), flush=True)


async def run(url: str) -> None:
    migrations = unstarted(build, Settings, "audit").migrations
    async with clone(url, "audit", migrations, ["ingest"]) as database:
        await measure(database)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        postgres = Postgres(Path(folder) / "postgres")
        try:
            postgres.start()
            uvloop.run(run(postgres.superuser_url))
        finally:
            postgres.kill()
