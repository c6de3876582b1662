"""DBOS and Temporal beside us: an environment of their own, the same steps and slots, a PostgreSQL like ours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
from bench.spine.machine import family, named, processor_seconds

from remit_local.loopback import free_port
from remit_local.postgres import Postgres

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "bench" / "peers"
ENVIRONMENT = ROOT / ".remit" / "bench-peers"
NAMES = ("dbos", "temporal")


def install() -> Path:
    """The Python of the peers' environment, made where it is missing or its requirements have changed."""
    python, wanted = ENVIRONMENT / "bin" / "python", PEERS / "requirements.txt"
    stamp = ENVIRONMENT / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        print(f"installing the peers into {ENVIRONMENT.relative_to(ROOT)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True)
        stamp.write_text(wanted.read_text())
    return python


class Peer:
    """One peer, ready to run rounds."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, postgres: Postgres | None) -> None:
        self.name, self._process, self._postgres = name, process, postgres

    async def round(self, runs: int, steps: int, width: int = 1) -> tuple[float, dict[str, float]]:
        """Seconds that so many runs took, and the processor time by part."""
        pids = [] if self._postgres is None else named(family(self._postgres.pid), "postgres")
        before = processor_seconds(pids)
        stdin, _ = _pipes(self._process)
        stdin.write(json.dumps({"runs": runs, "steps": steps, "width": width}).encode() + b"\n")
        answer = await _line(self._process, self.name)
        spent: dict[str, float] = answer["cpu_seconds"]
        if pids:
            spent["postgres"] = processor_seconds(pids) - before
        return answer["seconds"], spent


@asynccontextmanager
async def running_peer(name: str) -> AsyncIterator[Peer]:
    """The peer with its worker and its store."""
    python = await asyncio.to_thread(install)
    with tempfile.TemporaryDirectory(prefix=f"remit-bench-{name}-") as folder:
        postgres, where = await _store(name, Path(folder))
        process = await asyncio.create_subprocess_exec(
            python, PEERS / f"{name}_peer.py", "drive", *where,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            _, stdout = _pipes(process)
            while (line := await stdout.readline()).strip() != b"ready":
                if not line:
                    raise SystemExit(f"{name} did not start: it ended with {await process.wait()}")
            yield Peer(name, process, postgres)
        finally:
            for pid in reversed(family(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await process.wait()
            if postgres is not None:
                postgres.kill()


async def _store(name: str, folder: Path) -> tuple[Postgres | None, tuple[str, ...]]:
    """Where the peer keeps its state: PostgreSQL for DBOS, the dev server's own SQLite for Temporal."""
    if name == "temporal":
        return None, (f"127.0.0.1:{free_port()}", str(folder))
    postgres = Postgres(folder / "postgres", max_connections=100)
    await asyncio.to_thread(postgres.start)
    connection = await asyncpg.connect(postgres.superuser_url)
    await connection.execute("create database bench")
    await connection.close()
    url = postgres.superuser_url.rpartition("/")[0] + "/bench"
    return postgres, (url.replace("postgresql://", "postgresql+psycopg://"),)


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a peer without pipes")
    return process.stdin, process.stdout


async def _line(process: asyncio.subprocess.Process, name: str) -> dict[str, Any]:
    _, stdout = _pipes(process)
    line = await stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended with {await process.wait()}")
    found: dict[str, Any] = json.loads(line)
    return found
