"""Keeps one child alive: start, readiness, restart with backoff, crash loop, end."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from remit_local.children import Child, ChildState
from remit_local.logs import ChildLog
from remit_local.process import Command, ServerError, kill_family

READY_STATES = frozenset({ChildState.READY, ChildState.DONE})


@dataclass(frozen=True)
class RestartRules:
    """How patient the supervisor is with a child that keeps ending."""

    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5
    crashes: int = 5
    within_seconds: float = 60
    crash_loop_pause_seconds: float = 30


class Keeper:
    """One child and the task that keeps it alive; `changed` is called after each change of state."""

    def __init__(self, child: Child, log: ChildLog, rules: RestartRules, changed: Callable[[], None]) -> None:
        self.child = child
        self.log = log
        self.state = ChildState.WAITING
        self.restarts = 0
        self.trouble = ""
        self.settled = asyncio.Event()  # ready for the first time, or given up for now
        self.ended = asyncio.Event()
        self._rules = rules
        self._changed = changed
        self._crashes: deque[float] = deque(maxlen=rules.crashes)
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._since = time.time()

    @property
    def pid(self) -> int | None:
        """The child's process, while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def report(self) -> dict[str, Any]:
        """Return what the state file says about this child."""
        return {
            "state": self.state,
            "pid": self.pid,
            "restarts": self.restarts,
            "since": self._since,
            "trouble": self.trouble,
        }

    def begin(self) -> None:
        """Start keeping the child alive."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.child.name}")

    async def stop(self) -> None:
        """End the child in order, by force when it takes longer than it may."""
        self._move(ChildState.STOPPING)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._process is not None and self.pid is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(self.child.stop_signal)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self.child.stop_seconds)
        await self.kill()
        await self._end_reading()
        self._move(ChildState.STOPPED)
        self.ended.set()

    async def kill(self) -> None:
        """End the child and all its processes at once."""
        if self._process is None:
            return
        if self.pid is not None:
            await asyncio.to_thread(kill_family, self._process.pid)
            await self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what the child left in its group

    async def _keep(self) -> None:
        while True:
            started = time.monotonic()
            try:
                code = await self._run_once()
            except (ServerError, OSError) as error:
                code = None
                self._complain(f"could not start: {error}")
            if code == 0 and self.child.once:
                self._move(ChildState.DONE)
                self.settled.set()
                return
            if code is not None:
                self._complain(f"ended with {code} after {time.monotonic() - started:.1f} s")
            await self._pause()

    async def _run_once(self) -> int:
        """Start the child, wait until it is ready and then until it ends; return its exit code."""
        self._move(ChildState.STARTING)
        command = await asyncio.to_thread(self.child.command)
        spawning = asyncio.create_task(self._spawn(command))
        try:
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await spawning  # or the process would run unknown to `stop`
            raise
        self._reading = asyncio.create_task(self._read(process))
        becoming_ready = asyncio.create_task(self._become_ready())
        try:
            code = await process.wait()
        finally:
            becoming_ready.cancel()
        await self._end_reading()
        return code

    async def _spawn(self, command: Command) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            *command.launched(),
            env=dict(command.env),
            cwd=command.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self.child.started(self._process.pid)
        return self._process

    async def _end_reading(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=1)  # its own children may hold the pipe open
            self._reading.cancel()
            self._reading = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 it was asked for
        while chunk := await process.stdout.read(65_536):
            self.log.feed(chunk)
        self.log.end()

    async def _become_ready(self) -> None:
        if self.child.once:
            return
        deadline = time.monotonic() + self.child.ready_seconds
        while self.child.ready is not None and not await self.child.ready():
            if time.monotonic() > deadline:
                self._complain(f"not ready within {self.child.ready_seconds:.0f} s")
                await self.kill()
                return
            await asyncio.sleep(0.05)
        self.trouble = ""
        self._move(ChildState.READY)
        self.settled.set()

    async def _pause(self) -> None:
        now = time.monotonic()
        self.restarts += 1
        self._crashes.append(now)
        rules = self._rules
        recent = sum(1 for crash in self._crashes if now - crash < rules.within_seconds)
        if recent >= rules.crashes:
            self._move(ChildState.CRASH_LOOP)
            self.settled.set()
            await asyncio.sleep(rules.crash_loop_pause_seconds)
            return
        self._move(ChildState.RESTARTING)
        await asyncio.sleep(min(rules.first_pause_seconds * 2 ** (recent - 1), rules.longest_pause_seconds))

    def _complain(self, text: str) -> None:
        self.trouble = text
        self.log.note(f"{self.child.name} {text}")

    def _move(self, state: ChildState) -> None:
        self.state = state
        self._since = time.time()
        self._changed()
