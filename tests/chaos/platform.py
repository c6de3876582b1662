"""A whole platform on a data folder of its own; with one process per service and role, any of which may be killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from chassis.migration import role
from remit_local.loopback import first_answer, free_port
from remit_local.platform.installation import Installation
from remit_local.platform.roster import edge_is_ready
from remit_local.presence import Status, status
from remit_local.process import Command

READY_SECONDS = 120
LOOK_SECONDS = 0.1
_READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_OK = b"HTTP/1.1 200"


class PlatformError(Exception):
    """The platform did not do what it has to, such as become ready again."""


class Platform:
    """Starts, watches and kills; `told` is what its operator sets in the environment."""

    def __init__(
        self, folder: Path, told: Mapping[str, str], *, processes: bool = True, wrap: Sequence[str] = ()
    ) -> None:
        self.installation = Installation(folder, edge_port=free_port())
        self.folder = self.installation.folder
        self._told, self._flags = told, ("--processes",) if processes else ()
        self._wrap = tuple(wrap)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def edge(self) -> str:
        return self.installation.edge

    @property
    def operator_key(self) -> str:
        return str(json.loads(self.installation.operator_file.read_text())["api_key"])

    def start(self) -> None:
        """Start the supervisor as `up --detach` does, except that it dies with this process."""
        self._starts += 1
        arguments = (str(self.folder), "--port", str(self.installation.edge_port), *self._flags)
        command = Command(
            (*self._wrap, *self.installation.python("remit_local.platform.keep", *arguments)),
            {**os.environ, **self._told},
        )
        logs = self.folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        with (logs / f"supervisor-{self._starts}.log").open("wb") as output:
            self._supervisor = subprocess.Popen(
                command.launched(),
                env=command.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def stop(self) -> None:
        """End everything in order, by force where that takes too long."""
        if self._supervisor is None:
            return
        self._supervisor.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._supervisor.wait, 30)
        self._supervisor.kill()
        self._supervisor.wait()

    async def kill_supervisor(self) -> int:
        """kill -9 the supervisor, with which everything dies; gives its pid. It has to be started anew."""
        assert self._supervisor is not None
        self._supervisor.kill()
        self._supervisor.wait()
        return self._supervisor.pid

    def status(self) -> Status | None:
        """What the supervisor says."""
        return status(self.folder)

    def pid_of(self, child: str) -> int | None:
        """The process of a supervised child, or of a service's role (`execution.work`), as long as it is known."""
        if "." in child:
            with suppress(FileNotFoundError, json.JSONDecodeError):
                return int(json.loads((self.folder / "processes.json").read_text())[child])
            return None
        standing = self.status()
        known = standing.children.get(child) if standing else None
        return known["pid"] if known else None

    async def until_ready(self) -> None:
        """Wait until the supervisor says that all is well, and the edge too."""
        await self._until(self._all_ready, "ready")

    async def until_replaced(self, child: str, pid: int) -> None:
        """Wait until another process does what this one did, and the edge answers."""

        async def replaced() -> bool:
            now = self.pid_of(child)
            if now is None or now == pid or not is_process(now):
                return False
            return await self._all_ready() and await self._door_ready(child)

        await self._until(replaced, f"{child} again")

    async def query(self, service: str, statement: str, *values: object) -> list[Any]:
        """Look into a service's database as nobody but a test may."""
        url = self.installation.postgres.superuser_url.rpartition("/")[0] + f"/{role(service)}"
        connection = await asyncpg.connect(url, timeout=5, command_timeout=30)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def _all_ready(self) -> bool:
        standing = self.status()
        if standing is None or standing.state == "crash_loop":
            return False
        states = {name: child["state"] for name, child in standing.children.items()}
        if not states or any(state not in ("ready", "done") for state in states.values()):
            return False
        return await edge_is_ready(self.installation.edge_port)

    async def _door_ready(self, child: str) -> bool:
        service, _, kind = child.partition(".")
        if kind != "api":
            return True
        port = self.installation.service_port(service)
        return (await asyncio.to_thread(first_answer, port, _READY, len(_OK))) == _OK

    async def _until(self, check: Any, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not await check():
            if self._supervisor is not None and self._supervisor.poll() is not None:
                raise PlatformError(f"the supervisor ended with {self._supervisor.returncode}")
            if time.monotonic() > deadline:
                raise PlatformError(f"not {what} within {READY_SECONDS} s: {self.status()}")
            await asyncio.sleep(LOOK_SECONDS)


def is_process(pid: int) -> bool:
    """Whether there is a process with this number."""
    return Path(f"/proc/{pid}").exists()


@asynccontextmanager
async def running_platform(told: Mapping[str, str], *, processes: bool = True) -> AsyncIterator[Platform]:
    """A platform that is ready; its folder stays when the test fails, and the place is printed."""
    folder = Path(tempfile.mkdtemp(prefix="remit-test-"))
    platform = Platform(folder, told, processes=processes)
    try:
        platform.start()
        await platform.until_ready()
        yield platform
    except BaseException:
        print(f"\nlogs and databases are kept in {folder}", flush=True)
        await platform.stop()
        raise
    await platform.stop()
    shutil.rmtree(folder, ignore_errors=True)
