"""Runs whose wait is over by the clock go back to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from execution.usecases.admission import sweeper
from execution.usecases.engine_loop import Addresses, addresses_of
from execution.usecases.signals import QUEUED, WAITING
from spine.stream import keep_running

if TYPE_CHECKING:
    from spine.service import Running

BATCH = 500
IDLE_SECONDS = 5.0
"""How often it looks where nobody has told it of a wait that is over sooner."""
LEAST_SECONDS = 0.02

# Whoever holds a row is about to change its status: it is not waited for, and the next look sees what became of it.
_WAKE = """with due as (
  select retention_class, id from run where status = 'waiting' and wake_at <= now() order by wake_at limit $1
  for update skip locked
), woken as (
  update run r set status = 'queued', waiting_for = null, wake_at = null, dispatched_at = null,
    waited = r.waited + (now() - coalesce(r.waiting_since, now())), waiting_since = null, updated_at = now(),
    version = r.version + 1
  from due where r.retention_class = due.retention_class and r.id = due.id and r.status = 'waiting' returning r.id
)
select (select count(*) from woken) as woken, extract(epoch from (
  select min(wake_at) from run where status = 'waiting' and wake_at > now()) - now())::float8 as next_seconds"""


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
    row = await connection.fetchrow(_WAKE, BATCH)
    if row["woken"]:
        await connection.execute("select pg_notify($1, '')", QUEUED)
        return LEAST_SECONDS
    following = row["next_seconds"]
    return IDLE_SECONDS if following is None else min(IDLE_SECONDS, max(LEAST_SECONDS, following))
