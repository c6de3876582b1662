"""How long from a request to the agent at low load, what one POST costs, and what an idle engine asks."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.engine.house import House, Tenant
from bench.spine.lines import show

REQUESTS, PER_SECOND, IDLE_SECONDS = 300, 20, 20
_RESET = "select pg_stat_statements_reset()"
_CALLS = """select coalesce(sum(calls), 0)::bigint from pg_stat_statements s join pg_database d on d.oid = s.dbid
where d.datname = current_database() and query !~* '^(begin|commit|rollback|savepoint|release|start transaction)'
  and query not like '%pg_stat_statements%'"""


async def measure_start(house: House, *, rounds: int, scale: float) -> None:
    """Requests at 20 a second; the agent itself tells when it was called."""
    tenant = house.tenants[0]
    count = max(int(REQUESTS * scale), 20)
    taken: list[list[float]] = []
    costs: list[float] = []
    for _ in range(rounds):
        before = house.processor_seconds()
        taken.append(sorted(await asyncio.gather(*(_one(house, tenant, n / PER_SECOND) for n in range(count)))))
        after = house.processor_seconds()
        doors = ("gateway.api", "execution.api")
        costs.append(sum(after[name] - before[name] for name in doors) / count * 1_000)
    show("start_p50_ms", [statistics.median(each) for each in taken], "ms", at_per_s=PER_SECOND)
    show("start_p99_ms", [each[int(len(each) * 0.99)] for each in taken], "ms")
    show("start_cpu_ms", costs, "ms CPU of edge and execution's door per POST with its answer awaited")


async def _one(house: House, tenant: Tenant, after: float) -> float:
    await asyncio.sleep(after)
    body = {**tenant.subjects["1"], "input": {"of": "bench"}}
    sent = time.time()
    run = await house.ask("POST", "/v1/runs", tenant.key, body, Prefer="wait=10")
    called: float = run["output"]["at"]
    return (called - sent) * 1_000


async def measure_idle(house: House, *, scale: float) -> None:
    """Queries that execution's database is asked while nothing runs."""
    seconds = max(IDLE_SECONDS * scale, 3)
    await house.count_statements()
    database = house.databases["execution"]
    await asyncio.sleep(3)
    await database.execute(_RESET)
    await asyncio.sleep(seconds)
    show("idle_queries_per_s", [await database.fetchval(_CALLS) / seconds], "queries/s")
