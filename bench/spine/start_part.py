"""How long a start takes that finds everything in place, and the memory of what it starts.

All services are in one process. The clock starts with the command and stops when the edge answers that it is ready. The
embedded model, where it is installed, starts too: nobody waits for it, and its memory stands apart.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bench.spine.lines import show
from bench.spine.machine import family, memory_mb, named

from remit_local.environment import server_environment
from remit_local.loopback import free_port
from remit_local.platform.roster import MODEL, SERVICES, edge_is_ready
from remit_local.presence import status

READY_SECONDS, SETTLE_SECONDS = 300, 5


async def remit(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """The product's command on this data folder."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remit_cli", "--data", str(folder), *arguments,
        env=server_environment({}), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def finish(command: asyncio.subprocess.Process) -> None:
    _, said = await command.communicate()
    if command.returncode:
        raise SystemExit(f"remit ended with {command.returncode}: {said.decode()[-1000:]}")


async def up(folder: Path, port: int) -> float:
    """Seconds from the command to the ready edge; returns when the command has ended."""
    started = time.perf_counter()
    command = await remit(folder, "up", "--no-demo", "--detach", "--port", str(port))
    async with asyncio.timeout(READY_SECONDS):
        while not await edge_is_ready(port) and command.returncode is None:  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.01)
    taken = time.perf_counter() - started
    await finish(command)
    return taken


def memory(folder: Path) -> dict[str, float]:
    """Megabytes of all Python processes, of the services' own, and of the model."""
    running = status(folder)
    if running is None:
        raise SystemExit("the platform is not running")
    model = family(running.children[MODEL]["pid"]) if MODEL in running.children else []
    everything = [pid for pid in named(family(running.pid), "python") if pid not in model]
    services = named(family(running.children[SERVICES]["pid"]), "python")
    parts = {"all": everything, "services": services, "model": model}
    return {name: memory_mb(pids) for name, pids in parts.items()} | {"processes": len(everything)}


async def measure_start(*, rounds: int) -> None:
    """One start on an empty folder, which installs nothing, then as many as there are rounds."""
    starts: list[float] = []
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as place:
        folder, port = Path(place) / "data", free_port()
        try:
            first = await up(folder, port)
            for _ in range(rounds):
                await finish(await remit(folder, "down"))
                starts.append(await up(folder, port))
                await asyncio.sleep(SETTLE_SECONDS)
                found.append(memory(folder))
        finally:
            await finish(await remit(folder, "down"))
    show("ready_first_s", [first], "s", start="on an empty folder")
    show("ready_s", starts, "s", aim="<= 15")
    show("memory_mb", [each["all"] for each in found], "MB", processes=int(found[-1]["processes"]))
    show("memory_services_mb", [each["services"] for each in found], "MB")
    if any(each["model"] for each in found):
        show("memory_model_mb", [each["model"] for each in found], "MB")
