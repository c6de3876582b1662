"""Writes of many runs that share one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis.telemetry import logger

Item = TypeVar("Item")
Result = TypeVar("Result")

LANES = 1
BUSY_ITEMS, PAUSE_SECONDS = 8, 0.003
"""After a flush of so many, how long to wait for those it has released: they come back with their next step."""
LARGEST = 500
log = logger(part="engine")


class Batches(Generic[Item, Result]):
    """Gathers what comes while a flush is under way into the next one; a lone item is flushed at once."""

    def __init__(self, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, lanes: int = LANES) -> None:
        self._flush, self._free = flush, lanes
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, item: Item) -> asyncio.Future[Result]:
        """The item's result once its batch is committed, or why it is not."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, result))
        if self._free:
            self._free -= 1
            task = loop.create_task(self._lane())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return result

    async def _lane(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever became ready in this turn of the loop comes along
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                await self._run(batch)
                if len(batch) >= BUSY_ITEMS:
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._free += 1

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  (it belongs to whoever waits for the item)
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            log.warning("flush failed, one by one now", items=len(batch), error=repr(error)[:300])
            for one in batch:
                await self._run([one])
            return
        for (_, waiting), result in zip(batch, results, strict=True):
            if not waiting.done():
                waiting.set_result(result)


def _fail(waiting: asyncio.Future[Result], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
