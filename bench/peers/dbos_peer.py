"""DBOS by its queue: `python dbos_peer.py worker|drive DATABASE_URL`.

A client enqueues, one worker process with 64 places works, the state is in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient
from driver import AT_ONCE, drive, start_worker, step_output

QUEUE, POLL_SECONDS = "q", 0.05


def make_application(url: str) -> type[DBOS]:
    """The workflow that does so many steps, one after another or side by side."""
    DBOS(
        config={
            "name": "bench", "system_database_url": url, "log_level": "ERROR", "application_version": "1",
            "executor_id": "w1", "sys_db_pool_size": 20,
        }
    )  # fmt: skip

    @DBOS.step()
    async def step(number: int, given: dict[str, Any]) -> dict[str, Any]:
        return step_output(number, given)

    @DBOS.workflow(name="run")
    async def run(given: dict[str, Any], steps: int, width: int) -> dict[str, Any]:
        if width > 1:
            return (await asyncio.gather(*(step(number, given) for number in range(width))))[-1]
        for number in range(steps):
            given = await step(number, given)
        return given

    return DBOS


class DbosPeer:
    """A client of the queue."""

    def __init__(self, url: str) -> None:
        self._url, self._ended = url, 0

    async def connect(self) -> None:
        self._client = DBOSClient(system_database_url=self._url)
        plain = self._url.replace("+psycopg", "")
        self._connection = await psycopg.AsyncConnection.connect(plain, autocommit=True)

    async def start(self, steps: int, width: int) -> Any:
        options = {"queue_name": QUEUE, "workflow_name": "run", "app_version": "1"}
        return await self._client.enqueue_async(options, {"of": "bench"}, steps, width)

    async def ended(self, handles: Sequence[Any]) -> None:
        """Ask once for all: asking for each would cost the peer more than it deserves."""
        self._ended += len(handles)
        counted = "select count(*) from dbos.workflow_status where status = 'SUCCESS'"
        while True:
            row = await (await self._connection.execute(counted)).fetchone()
            if row is not None and row[0] >= self._ended:
                return
            await asyncio.sleep(0.02)

    def pids(self) -> dict[str, int]:
        return {}


def work(url: str) -> None:
    """Be the worker until killed."""
    application = make_application(url)
    application.launch()
    application.register_queue(QUEUE, polling_interval_sec=POLL_SECONDS, worker_concurrency=AT_ONCE)
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    role, database_url = sys.argv[1:]
    if role == "worker":
        work(database_url)
    worker = start_worker([sys.executable, __file__, "worker", database_url])
    asyncio.run(drive(DbosPeer(database_url), worker))
