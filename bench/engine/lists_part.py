"""The list of runs with ten thousand stored, and with a million."""

from __future__ import annotations

import time

from bench.engine.house import House, Tenant
from bench.spine.lines import show

FEW, MANY, REQUESTS, WARM = 10_000, 1_000_000, 300, 30
CHUNK = 100_000
_FILL = """insert into run (retention_class, id, organization_id, workspace_id, execution_type, agent_id, version_id,
  semver, config_digest, pins, caller, created_by, triggered_by, trigger_type, decision_id, decision, status,
  root_run_id, queued_at, started_at, completed_at, created_at)
select 90, uuidv7_at(at), $1::uuid, $2::uuid, 'agent', $3::uuid, $3::uuid, '1.0.0', 'sha256:0', '{}', '{}', 'bench',
  'bench', 'api', $3::uuid, '{}', 'completed', $3::uuid, at, at, at, at
from (select now() - n * interval '1 second' / 1000 as at from generate_series($4::integer, $5::integer) n) s"""
_UUIDV7 = """create or replace function pg_temp.uuidv7_at(at timestamptz) returns uuid language sql as $$
select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3)
  || '8' || substr(md5(random()::text), 1, 15))::uuid $$"""


async def measure_lists(house: House, *, scale: float) -> None:
    """p99 of `GET /v1/runs?limit=50` and of a filtered one, before and after."""
    tenant = house.tenants[0]
    few, many = int(FEW * scale), int(MANY * scale)
    first = await _p99_after(house, tenant, 0, few)
    second = await _p99_after(house, tenant, few, many)
    for label, one, other in zip(("list", "filtered_list"), first, second, strict=True):
        show(f"{label}_p99_ms_1e4", [one], "ms", stored=few)
        show(f"{label}_p99_ms_1e6", [other], "ms", stored=many)
        show(f"{label}_p99_1e6_vs_1e4", [other / one], "x")


async def _p99_after(house: House, tenant: Tenant, start: int, end: int) -> list[float]:
    database = house.databases["execution"]
    await database.execute(_UUIDV7)
    workspace = await database.fetchval("select id from workspace where organization_id = $1::uuid", tenant.id)
    agent = tenant.subjects["1"]["agent"]
    fill = _FILL.replace("uuidv7_at", "pg_temp.uuidv7_at")
    for at in range(start, end, CHUNK):
        await database.execute(fill, tenant.id, workspace, agent, at + 1, min(at + CHUNK, end), timeout=300)
    await database.execute("vacuum analyze run", timeout=300)
    return [await _p99(house, tenant, query) for query in ("limit=50", "limit=50&status=failed")]


async def _p99(house: House, tenant: Tenant, query: str) -> float:
    taken = []
    for number in range(REQUESTS + WARM):
        started = time.perf_counter()
        await house.ask("GET", f"/v1/runs?{query}", tenant.key)
        if number >= WARM:
            taken.append((time.perf_counter() - started) * 1_000)
    return sorted(taken)[int(REQUESTS * 0.99)]
