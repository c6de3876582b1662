"""The clock door: what time makes a service do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chassis.telemetry import logger

if TYPE_CHECKING:
    from spine.service import Running

log = logger(part="jobs")
JobFunction = Callable[["Running"], Awaitable[None]]


@dataclass(frozen=True)
class Job:
    """Something done again and again. Several processes may do it at once: each run must be safe beside another."""

    name: str
    seconds: float
    run: JobFunction

    async def forever(self, running: Running) -> None:
        """Do it, wait, do it again; an error is logged and the next turn comes all the same."""
        await asyncio.sleep(random.uniform(0, min(self.seconds, 1)))
        while True:
            try:
                async with asyncio.timeout(max(60, self.seconds)):
                    await self.run(running)
            except Exception as error:  # noqa: BLE001  (a clock that stops is worse than a turn that failed)
                log.warning("job failed", job=self.name, service=running.settings.service, error=repr(error)[:300])
            await asyncio.sleep(self.seconds)


def every(*, seconds: float) -> Callable[[JobFunction], Job]:
    """A job of this function, done every so many seconds: `every(seconds=5)(leases.reap)`."""

    def make(function: JobFunction) -> Job:
        return Job(getattr(function, "__name__", "job"), seconds, function)

    return make
