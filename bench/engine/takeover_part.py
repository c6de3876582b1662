"""kill -9 of a worker in the middle of a step, another worker alive: how long until the step is tried again."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from uuid import UUID

import uvloop
from bench.facts import find_servers
from bench.spine.lines import show
from services.execution.tests.engine_stage import EngineStage, make_engine_stage

from execution.clients.agents import AgentCall, AgentResult
from execution.usecases.engine_loop import EngineWorker, Options
from spine.topology import declare_topology

KILLS, WORKERS, LONGEST_SECONDS, LOOK_SECONDS = 200, 2, 30, 0.001


class HangsOnce:
    """Tells of each call in a file; the first call for a run never ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, call: AgentCall) -> AgentResult:
        first = self._folder / str(call.run_id)
        is_first = not first.exists()
        first.touch()
        with (self._folder / "calls").open("a") as calls:
            calls.write(json.dumps([str(call.run_id), os.getpid(), time.time()]) + "\n")
        if is_first:
            await asyncio.sleep(LONGEST_SECONDS)
        return AgentResult({})


class Workers:
    """Worker processes, as many as there should be."""

    def __init__(self, stage: EngineStage, folder: Path) -> None:
        self._stage, self._folder = stage, folder
        self.alive: dict[int, multiprocessing.Process] = {}

    def fill(self) -> None:
        """Fork what is missing."""
        while len(self.alive) < WORKERS:
            process = multiprocessing.get_context("fork").Process(target=lambda: uvloop.run(self._work()), daemon=True)
            process.start()
            self.alive[process.pid or 0] = process

    def kill(self, pid: int) -> float:
        """kill -9; gives the time of it."""
        os.kill(pid, signal.SIGKILL)
        at = time.time()
        self.alive.pop(pid).join()
        return at

    async def _work(self) -> None:
        await EngineWorker(self._stage.addresses, Options(agents=HangsOnce(self._folder))).run()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def _call(calls: Path, run_id: UUID, number: int) -> tuple[int, float]:
    """The process and the moment of a run's call of this number, as soon as it is made."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        lines = await asyncio.to_thread(_lines, calls)
        made = [(pid, at) for called, pid, at in map(json.loads, lines) if called == str(run_id)]
        if len(made) > number:
            return made[number]
        if time.monotonic() > deadline:
            raise SystemExit(f"call {number} of {run_id} was not made within {LONGEST_SECONDS} s")
        await asyncio.sleep(LOOK_SECONDS)


async def measure_takeover(*, scale: float) -> None:
    """Seconds from the kill to the next call for the same step."""
    taken: list[float] = []
    with find_servers() as servers, tempfile.TemporaryDirectory() as folder:
        await declare_topology(servers.amqp_url, {"execution": ()})
        calls = Path(folder) / "calls"
        calls.touch()
        async with make_engine_stage(servers) as stage:
            place = await stage.place()
            what = await stage.agent(place, "hangs")
            workers = Workers(stage, Path(folder))
            for _ in range(max(int(KILLS * scale), 3)):
                workers.fill()
                run_id = await stage.queue_run(place, what)
                await stage.dispatch(place, run_id)
                pid, _ = await _call(calls, run_id, 0)
                killed_at = workers.kill(pid)
                _, again_at = await _call(calls, run_id, 1)
                taken.append(again_at - killed_at)
                await stage.ended(run_id)  # else its end might be killed with the next one, and be called for again
            for pid in list(workers.alive):
                workers.kill(pid)
    taken.sort()
    show("takeover_p50_s", [taken[len(taken) // 2]], "s", kills=len(taken))
    show("takeover_p99_s", [taken[int(len(taken) * 0.99)]], "s", kills=len(taken))
