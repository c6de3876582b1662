"""Durable runs per second beside the peers, in turns: every fact audited and booked before our clock stops."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from bench.engine.house import SLOTS, WIDTH, House
from bench.engine.peers import NAMES, Peer, running_peer
from bench.spine.lines import show

OURS = {"1": 6_000, "5": 3_000, "20": 800, "wide": 300}
THEIRS = {"1": 300, "5": 200, "20": 60, "wide": 20}
SHAPES = {"1": (1, 1), "5": (5, 1), "20": (20, 1), "wide": (1, WIDTH)}
LABELS = {"1": "1_step", "5": "5_step", "20": "20_step", "wide": f"fan_out_{WIDTH}"}


async def one_round(house: House, case: str, runs: int) -> tuple[float, dict[str, float]]:
    """Runs per second, and milliseconds of processor time per run by part."""
    before = house.processor_seconds()
    started = time.perf_counter()
    each = runs // len(house.tenants)
    for tenant in house.tenants:
        await house.start_runs(tenant, case, each)
    await house.drained()
    seconds = time.perf_counter() - started
    after = house.processor_seconds()
    total = each * len(house.tenants)
    return total / seconds, {name: (after[name] - before[name]) / total * 1_000 for name in after}


async def measure_throughput(house: House, *, rounds: int, scale: float) -> None:
    """Each case in turns with each peer; a ratio is made within a round."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(running_peer(name)) for name in NAMES]
        for case in SHAPES:
            await _measure_case(house, peers, case, rounds=rounds, scale=scale)
    await house.check()


async def _measure_case(house: House, peers: list[Peer], case: str, *, rounds: int, scale: float) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *NAMES)}
    spent: list[dict[str, float]] = []
    runs = max(int(OURS[case] * scale), 20)
    await one_round(house, case, max(runs // 5, 20))
    for _ in range(rounds):
        rate, cpu = await one_round(house, case, runs)
        rates["ours"].append(rate)
        spent.append(cpu)
        for peer in peers:
            theirs = max(int(THEIRS[case] * scale), 5)
            seconds, _cpu = await peer.round(theirs, *SHAPES[case])
            rates[peer.name].append(theirs / seconds)
    label = LABELS[case]
    show(f"runs_{label}_per_s", rates["ours"], "runs/s", slots=SLOTS, runs=runs)
    for name in NAMES:
        show(f"{name}_{label}_per_s", rates[name], "runs/s", slots=SLOTS)
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates[name], strict=True)]
        show(f"runs_{label}_vs_{name}", ratios, "x")
    parts = {name: round(sum(one[name] for one in spent) / len(spent), 3) for name in spent[0]}
    show(f"cpu_ms_per_{label}_run", [sum(one.values()) for one in spent], "ms CPU/run", parts=parts)
