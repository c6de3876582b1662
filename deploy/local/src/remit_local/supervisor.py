"""Keeps children alive on one data folder: start by readiness, restarts, logs, orderly end, nothing left behind."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from remit_local.children import Child, ChildState
from remit_local.keeper import READY_STATES, Keeper, RestartRules
from remit_local.logs import ChildLog, Listener
from remit_local.presence import Presence
from remit_local.process import ServerError


class Supervisor:
    """Owns a data folder and its children; its event loop must run in the main thread, with whose end children die."""

    def __init__(
        self,
        folder: Path,
        children: Sequence[Child],
        *,
        listener: Listener | None = None,
        rules: RestartRules | None = None,
    ) -> None:
        _require_known_names(children)
        self.details: dict[str, Any] = {}
        self._state = "starting"
        self._presence = Presence(folder)
        self._signals = 0
        self._stop_asked = asyncio.Event()
        self._killing: asyncio.Task[None] | None = None
        patience = rules or RestartRules()
        self._keepers = {
            child.name: Keeper(child, ChildLog(folder / "logs", child.name, listener), patience, self._write)
            for child in children
        }
        self._write()

    def __getitem__(self, name: str) -> Keeper:
        """Return what is known about a child."""
        return self._keepers[name]

    async def start(self) -> None:
        """Start all children, each when those it comes after are ready; raise ServerError when one never gets there."""
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in self._keepers.values():
                    group.create_task(self._start_in_turn(keeper))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._become("ready")

    async def run(self, when_ready: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start, call `when_ready`, wait for SIGINT, SIGTERM or `ask_to_stop`, then end the children in order.

        A second signal kills them. What `start` or `when_ready` raise ends the children too, and is raised.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask_to_stop)
        try:
            await self._unless_stopped(self.start())
            if when_ready is not None and not self._stop_asked.is_set():
                await self._unless_stopped(when_ready())
            await self._stop_asked.wait()
        finally:
            await self.stop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _unless_stopped(self, work: Awaitable[None]) -> None:
        """Do the work, but give it up at once when asked to stop meanwhile."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self._stop_asked.wait())
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait([working])
            return
        await working

    def ask_to_stop(self) -> None:
        """Begin the orderly end; asked again, kill everything at once."""
        self._signals += 1
        self._stop_asked.set()
        if self._signals > 1:
            self._killing = asyncio.create_task(self.kill())

    async def stop(self) -> None:
        """End all children, each after those that came after it; then give up the data folder."""
        self._become("stopping")
        async with asyncio.TaskGroup() as group:
            for keeper in self._keepers.values():
                group.create_task(self._stop_in_turn(keeper))
        self._presence.release()

    async def kill(self) -> None:
        """End all children at once."""
        await asyncio.gather(*(keeper.kill() for keeper in self._keepers.values()))

    def tell(self, **details: Any) -> None:
        """Publish facts about this installation, such as its edge, in the state file."""
        self.details.update(details)
        self._write()

    async def _start_in_turn(self, keeper: Keeper) -> None:
        for name in () if keeper.child.early else keeper.child.after:
            await self._keepers[name].settled.wait()
            if self._keepers[name].state not in READY_STATES:
                return  # its own turn reports it
        keeper.begin()
        await keeper.settled.wait()
        if keeper.state not in READY_STATES:
            raise ServerError(f"{keeper.child.name} does not start: {keeper.trouble}\n{keeper.log.tail()}")

    async def _stop_in_turn(self, keeper: Keeper) -> None:
        for later in self._keepers.values():
            if keeper.child.name in later.child.after:
                await later.ended.wait()
        await keeper.stop()

    def _become(self, state: str) -> None:
        self._state = state
        self._write()

    def _write(self) -> None:
        crashing = any(keeper.state is ChildState.CRASH_LOOP for keeper in self._keepers.values())
        state = ChildState.CRASH_LOOP if crashing else self._state
        children = {name: keeper.report() for name, keeper in self._keepers.items()}
        self._presence.write(state, children, self.details)


def _require_known_names(children: Sequence[Child]) -> None:
    seen: set[str] = set()
    for child in children:
        unknown = set(child.after) - seen
        if unknown or child.name in seen:
            raise ValueError(f"child {child.name!r}: listed twice, or before {sorted(unknown)}")
        seen.add(child.name)
