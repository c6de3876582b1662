"""Durable runs per second, as bench/engine.py takes them: the echo agent is inside the worker, both sizes in turns."""

from __future__ import annotations

from bench.facts import in_process
from bench.spine.engine import check, one_round, prepare, relay, work
from bench.spine.lines import show
from services.execution.tests.engine_stage import make_engine_stage

from remit_local.testing import Servers
from spine.topology import declare_topology


async def measure_runs(servers: Servers, *, rounds: int, runs: int) -> None:
    """Runs of one step and of five, in turns, after a warm round of each."""
    await declare_topology(servers.amqp_url, {"execution": ()})
    rates: dict[int, list[float]] = {5: [], 1: []}
    async with make_engine_stage(servers) as stage:
        whats = {steps: await prepare(stage, steps) for steps in rates}
        with in_process(lambda: work(stage)), in_process(lambda: relay(stage)):
            for steps in rates:
                await one_round(stage, whats[steps], max(runs // 10, 1))
            for _ in range(rounds):
                for steps, taken in rates.items():
                    taken.append(await one_round(stage, whats[steps], runs))
        await check(stage)
    for steps, taken in rates.items():
        show(f"runs_{steps}_step_per_s", taken, "runs/s", runs=runs, agent="echo inside the worker")
