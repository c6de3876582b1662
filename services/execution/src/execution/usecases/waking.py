"""Runs whose wait is over by the clock go back to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from execution.usecases.admission import sweeper
from execution.usecases.engine_loop import Addresses, addresses_of
from execution.usecases.wake_ups import QUEUED, WAITING
from spine.stream import keep_running

if TYPE_CHECKING:
    from spine.service import Running

BATCH = 500
IDLE_SECONDS = 5.0
"""How often it looks where nobody has told it of a wait that is over sooner."""
LEAST_SECONDS = 0.02


def waking() -> Callable[[Running], Coroutine[Any, Any, None]]:
    """The worker for `Service(workers=[...])`; any number of processes may do it."""

    async def run_waking(running: Running) -> None:
        addresses = addresses_of(running)
        await keep_running(lambda: wake_forever(addresses), "execution.waking", pause=lambda _: 0.5)

    return run_waking


async def wake_forever(addresses: Addresses) -> None:
    """Wake what is due, rest until the next wait is over, until cancelled."""
    connection = await sweeper(addresses, "waking")
    try:
        told = asyncio.Event()
        await connection.add_listener(WAITING, lambda *_: told.set())
        while not connection.is_closed():
            told.clear()
            seconds = await wake(connection)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await told.wait()
    finally:
        connection.terminate()


async def wake(connection: Any) -> float:
    """Queue up to 500 runs whose wait is over; returns in how many seconds to look again."""
    row = await connection.fetchrow("select woken, next_seconds from wake_runs($1)", BATCH)
    if row["woken"]:
        await connection.execute("select pg_notify($1, '')", QUEUED)
        return LEAST_SECONDS
    following = row["next_seconds"]
    return IDLE_SECONDS if following is None else min(IDLE_SECONDS, max(LEAST_SECONDS, following))
