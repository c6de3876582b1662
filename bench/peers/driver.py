"""Rounds of a peer, on demand: one JSON object per line in, what to do; one out, what it took.

Runs in an environment of its own (`bench/peers/requirements.txt`) and knows nothing of Remit. In:
`{"runs": 500, "steps": 5, "width": 1}`; a width above 1 is so many steps side by side instead. Out:
`{"seconds": 9.1, "cpu_seconds": {"worker": 3.2, "client": 0.9}}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

AT_ONCE = 64
PAD = "x" * 200
TICKS = os.sysconf("SC_CLK_TCK")


class Peer(Protocol):
    """What an adapter does."""

    async def connect(self) -> None:
        """Bring up whatever takes runs; the worker is up by then."""

    async def start(self, steps: int, width: int) -> Any:
        """Start one run, durably; a handle of it."""

    async def ended(self, handles: Sequence[Any]) -> None:
        """Wait until all of them are over."""

    def pids(self) -> dict[str, int]:
        """What else works for it, by name."""


def step_output(number: int, given: Any) -> dict[str, Any]:
    """The work of one step, the same for everybody: a small JSON in, a small JSON out."""
    return {"step": number, "of": given.get("of") if isinstance(given, dict) else None, "pad": PAD}


def start_worker(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a worker and wait until it says `ready`."""
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in worker.stdout or ():
        if line.strip() == "ready":
            return worker
    raise SystemExit(f"the worker ended with {worker.wait()}")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS + sum(cpu_seconds(int(child)) for child in children)


async def one_round(peer: Peer, runs: int, steps: int, width: int) -> None:
    """Start so many runs, 64 at once, and wait for all."""
    numbers = iter(range(runs))
    handles: list[Any] = []

    async def lane() -> None:
        for _ in numbers:
            handles.append(await peer.start(steps, width))

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    await peer.ended(handles)


async def drive(peer: Peer, worker: subprocess.Popen[str]) -> None:
    """Do what stdin says until it ends."""
    await peer.connect()
    await one_round(peer, 2, 2, 1)
    print("ready", flush=True)
    pids = {"worker": worker.pid, "client": os.getpid(), **peer.pids()}
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        started = time.perf_counter()
        await one_round(peer, asked["runs"], asked["steps"], asked["width"])
        seconds = time.perf_counter() - started
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        print(json.dumps({"seconds": seconds, "cpu_seconds": spent}), flush=True)
    worker.kill()
