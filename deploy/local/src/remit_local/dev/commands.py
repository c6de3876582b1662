"""Runs programs of the virtual environment: one after another to the screen, or side by side into a table."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remit_local.dev.workspace import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

CORES = 2
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Step:
    """One named program and its arguments."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    step: Step
    code: int
    seconds: float
    output: str


def program(name: str) -> str:
    """Give the path of a program installed beside this Python, else its name for the search path."""
    beside = BIN / name
    return str(beside) if beside.exists() else name


def show(argv: Sequence[str], *, root: Path = ROOT) -> int:
    """Run a program on this screen and give its exit code."""
    return subprocess.run(argv, cwd=root, check=False).returncode


async def _run(step: Step, gate: asyncio.Semaphore, root: Path) -> Outcome:
    async with gate:
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *step.argv, cwd=root, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        return Outcome(step, process.returncode or 0, time.monotonic() - started, output.decode(errors="replace"))


async def run_all(steps: Sequence[Step], *, cores: int = CORES, root: Path = ROOT) -> list[Outcome]:
    """Run all steps, at most `cores` at a time, whatever fails; outcomes come in the order of the steps."""
    gate = asyncio.Semaphore(cores)
    return await asyncio.gather(*(_run(step, gate, root) for step in steps))
