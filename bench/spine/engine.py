"""Durable runs per second: admitted, claimed, worked on, stored, with every fact confirmed by the stream.

    python bench/engine.py [runs]

Worker (with admission) and relay are processes of their own; PostgreSQL (fsync on) and RabbitMQ are private. The echo
is inside the worker, so that only the engine is measured. The clock starts with the insertion of the runs and ends when
the last fact is confirmed. Prints JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import orjson
import uvloop
from services.execution.tests.engine_stage import Definition, EngineStage, Place, make_engine_stage

from chassis.ids import new_id
from execution.clients.agents import AgentCall, AgentResult
from execution.usecases.admission import Admission
from execution.usecases.engine_loop import EngineWorker, Options
from execution.usecases.wake_ups import WakeUps
from remit_local.testing import Servers
from spine.outbox import Relay
from spine.stream import StreamPlace
from spine.topology import declare_topology

RUNS, ORGANIZATIONS, ROUNDS = 3_000, 20, 3
PAD = "x" * 200


class Echo:
    """Answers at once with about 250 bytes."""

    async def run(self, call: AgentCall) -> AgentResult:
        return AgentResult({"step": call.node, "pad": PAD})


def show(name: str, value: float, unit: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit}), flush=True)


@contextmanager
def in_process(work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[int]:
    """Run a loop in a forked process until the block ends."""
    child = multiprocessing.get_context("fork").Process(target=lambda: uvloop.run(work()), daemon=True)
    child.start()
    try:
        yield child.pid or 0
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


async def work(stage: EngineStage) -> None:
    """Admission and one worker, as one process of the service runs them."""
    wake_ups = WakeUps(stage.database.url())
    options = Options(agents=Echo(), on_ended=wake_ups.ended)
    await asyncio.gather(Admission(stage.addresses).run(), EngineWorker(stage.addresses, options).run())


async def relay(stage: EngineStage) -> None:
    await Relay("execution", stage.database.url("relay"), StreamPlace.parse(stage.servers.stream_url)).run()


async def insert(stage: EngineStage, whats: list[tuple[Place, Definition]], count: int) -> None:
    """Queue runs, evenly over the organizations, in one statement."""
    rows = []
    for number in range(count):
        place, what = whats[number % len(whats)]
        pins = orjson.dumps(what.pins).decode()
        rows.append((new_id(), place.organization_id, place.workspace_id, what.kind, what.id, what.version_id, pins))
    await stage.database.sql(
        """insert into run (retention_class, id, organization_id, workspace_id, execution_type, agent_id,
        orchestration_id, version_id, semver, config_digest, pins, caller, created_by, triggered_by, trigger_type,
        decision_id, decision, root_run_id, input, queued_at)
        select 30, r.id, r.organization_id, r.workspace_id, r.kind, case r.kind when 'agent' then r.what end,
          case r.kind when 'orchestration' then r.what end, r.version_id, '1.0.0', 'sha256:0', r.pins::jsonb, '{}', 'o',
          'u', 'api', r.id, '{}', r.id, '{"q": 1}', now()
        from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::text[])
          as r(id, organization_id, workspace_id, kind, what, version_id, pins)""",
        *([list(column) for column in zip(*rows, strict=True)]),
    )
    await stage.database.sql("notify run_queued")


async def finished(stage: EngineStage) -> None:
    """Wait until no run is open and the broker has confirmed every fact."""
    open_runs = "select exists (select from run where status not in ('completed', 'failed'))"
    while await stage.database.value(open_runs):  # noqa: ASYNC110  (the rows are in a database)
        await asyncio.sleep(0.05)
    unsent = "select exists (select from outbox) or (select sequence > confirmed from fact_head)"
    while await stage.database.value(unsent):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def prepare(stage: EngineStage, steps: int) -> list[tuple[Place, Definition]]:
    """What runs of this many steps are made of, in each organization."""
    whats = []
    for _ in range(ORGANIZATIONS):
        place = await stage.place(max_concurrent_executions=100_000)
        what = await (stage.agent(place, "echo") if steps == 1 else stage.sequence(place, steps))
        whats.append((place, what))
    return whats


async def one_round(stage: EngineStage, whats: list[tuple[Place, Definition]], count: int) -> float:
    """Runs per second of so many."""
    start = time.perf_counter()
    await insert(stage, whats, count)
    await finished(stage)
    return count / (time.perf_counter() - start)


async def check(stage: EngineStage) -> None:
    """SystemExit unless every run completed and every attempt is a row."""
    failed = await stage.database.value("select count(*) from run where status <> 'completed'")
    attempts = await stage.database.value("select sum(step_count) from run") or 0
    rows = await stage.database.value("select count(*) from step")
    if failed or attempts != rows:
        raise SystemExit(f"{failed} runs failed, {attempts} attempts are counted and {rows} stored")


async def measure(stage: EngineStage, steps: int, runs: int) -> None:
    """Runs per second of this many steps, best of some rounds after a warm one."""
    whats = await prepare(stage, steps)
    await one_round(stage, whats, runs // 10)
    rates = [await one_round(stage, whats, runs) for _ in range(ROUNDS)]
    await check(stage)
    show(f"runs_{steps}_step_per_s", max(rates), "runs/s")
    show(f"runs_{steps}_step_per_s_worst", min(rates), "runs/s")


async def main(servers: Servers, runs: int) -> None:
    """Both sizes on one database, with its processes."""
    await declare_topology(servers.amqp_url, {"execution": ()})
    async with make_engine_stage(servers) as stage:
        with in_process(lambda: work(stage)), in_process(lambda: relay(stage)):
            for steps in (1, 5):
                await measure(stage, steps, runs)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with find_servers() as found:
        asyncio.run(main(found, wanted))
