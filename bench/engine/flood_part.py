"""One organization starts ten thousand runs, another fifty: what the second notices."""

from __future__ import annotations

import asyncio
import time

from bench.engine.house import House, Tenant
from bench.spine.lines import show

FLOOD, FEW, LONGEST_SECONDS = 10_000, 50, 60
_ENDED = """select extract(epoch from completed_at)::float8 - $2 as seconds from run
where id = any ($1::uuid[]) and status = 'completed'"""


async def measure_flood(house: House, *, rounds: int, scale: float) -> None:
    """p99 of the second's runs, from request to end, alone and during the flood, in turns."""
    flooding, other = house.tenants
    flood, alone, beside = max(int(FLOOD * scale), 200), [], []
    await _p99(house, other)
    for _ in range(rounds):
        alone.append(await _p99(house, other))
        await house.start_runs(flooding, "5", flood)
        beside.append(await _p99(house, other))
        if not await house.databases["execution"].fetchval(
            "select exists (select from run where organization_id = $1::uuid and status = 'queued')", flooding.id
        ):
            raise SystemExit("the flood was over before the others were: nothing was measured")
        await house.drained()
    show("flood_alone_p99_ms", alone, "ms", runs=FEW)
    show("flood_beside_p99_ms", beside, "ms", runs=FEW, flood=flood)
    show("flood_other_org_p99_ratio", [one / two for one, two in zip(beside, alone, strict=True)], "x")


async def _p99(house: House, tenant: Tenant) -> float:
    """From the request to the end of the last of fifty started together, in milliseconds."""
    asked = time.time()
    ids = await house.start_runs(tenant, "5", FEW)
    deadline = asked + LONGEST_SECONDS
    while len(rows := await house.databases["execution"].fetch(_ENDED, ids, asked)) < FEW:
        if time.time() > deadline:
            raise SystemExit(f"{FEW - len(rows)} runs have not ended after {LONGEST_SECONDS} s")
        await asyncio.sleep(0.05)
    return sorted(row["seconds"] * 1_000 for row in rows)[int(FEW * 0.99)]
