"""Child runs: started, stopped, and told of to their parents, as soon as somebody says so and every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chassis.caller import NOBODY, Caller
from chassis.objects import Objects
from chassis.telemetry import logger
from execution.usecases import children
from execution.usecases.children import Due
from execution.usecases.wake_ups import WakeUps
from spine.stream import keep_running

if TYPE_CHECKING:
    from spine.service import Running

SWEEP_SECONDS = 5.0
"""How often it looks where nobody has said that there is something to do."""
AGAIN_SECONDS = 0.5
"""How soon what could not be done is tried again."""
AT_ONCE = 8
MOST_IN_VAIN = 2_000
CLOCK = "execution.clock"
log = logger(part="children")


def look_after_children(objects: Objects, wake_ups: WakeUps) -> Callable[[Running], Coroutine[Any, Any, None]]:
    """The worker for `Service(workers=[...])`; any number of processes may do it."""

    async def run_children(running: Running) -> None:
        keeper = _Keeper(running, objects, wake_ups)
        await keep_running(keeper.forever, "execution.children", pause=lambda _: 0.5)

    return run_children


class _Keeper:
    """Looks after children until cancelled."""

    def __init__(self, running: Running, objects: Objects, wake_ups: WakeUps) -> None:
        self._running, self._objects, self._wake_ups = running, objects, wake_ups
        self._places = asyncio.Semaphore(AT_ONCE)

    async def forever(self) -> None:
        """Do what is due, again and again; what could not be done comes again after all that can."""
        in_vain: list[UUID] = []
        while True:
            async with self._running.units.begin(Caller.system(NOBODY, CLOCK)) as uow:
                due = await children.find_due(uow, in_vain)
            done = await asyncio.gather(*(self._look_after(each) for each in due))
            if any(done):
                self._wake_ups.queued()
            in_vain += [each.step_id for each, was_done in zip(due, done, strict=True) if not was_done]
            if not due or len(in_vain) > MOST_IN_VAIN:
                await self._wake_ups.wait_for_children(AGAIN_SECONDS if in_vain else SWEEP_SECONDS)
                in_vain = []

    async def _look_after(self, due: Due) -> bool:
        try:
            async with self._places:
                rules = await self._running.rules.of(due.organization_id)
                async with self._running.units.begin(Caller.system(due.organization_id, CLOCK)) as uow:
                    return await children.look_after_child(uow, due, rules=rules, objects=self._objects)
        except Exception as error:  # noqa: BLE001  (one child must not keep the others waiting)
            log.warning("child not looked after", run_id=str(due.run_id), error=repr(error)[:300])
            return False
