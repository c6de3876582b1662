"""One organization starts ten thousand runs, another fifty: what the second notices."""

from __future__ import annotations

import asyncio
import time

from bench.engine.house import House, Tenant
from bench.spine.lines import show

FLOOD, FEW, PER_SECOND = 10_000, 50, 10


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
    async def one(number: int) -> float:
        await asyncio.sleep(number / PER_SECOND)
        started = time.perf_counter()
        body = {**tenant.subjects["5"], "input": {"of": "bench"}}
        run = await house.ask("POST", "/v1/runs", tenant.key, body, Prefer="wait=60")
        if run["status"] != "completed":
            raise SystemExit(f"a run is {run['status']} after a minute")
        return (time.perf_counter() - started) * 1_000

    taken = sorted(await asyncio.gather(*(one(number) for number in range(FEW))))
    return taken[int(FEW * 0.99)]
