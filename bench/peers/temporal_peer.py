"""Temporal's dev server, SQLite on disk: `python temporal_peer.py worker|drive HOST:PORT [FOLDER]`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

with workflow.unsafe.imports_passed_through():
    from driver import AT_ONCE, drive, start_worker, step_output

QUEUE, LONGEST = "q", timedelta(seconds=30)


@activity.defn(name="step")
async def step(number: int, given: dict[str, Any]) -> dict[str, Any]:
    return step_output(number, given)


@workflow.defn(name="run")
class Run:
    """So many steps, one after another or side by side."""

    @workflow.run
    async def run(self, given: dict[str, Any], steps: int, width: int) -> dict[str, Any]:
        async def one(number: int, input: dict[str, Any]) -> dict[str, Any]:
            return await workflow.execute_activity(step, args=[number, input], start_to_close_timeout=LONGEST)

        if width > 1:
            return (await asyncio.gather(*(one(number, given) for number in range(width))))[-1]
        for number in range(steps):
            given = await one(number, given)
        return given


class TemporalPeer:
    """A client of the dev server, which it starts."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        host, _, port = address.partition(":")
        binary = Path(sys.executable).with_name("temporal")
        self._server = subprocess.Popen(
            [
                binary, "server", "start-dev", "--headless", "--ip", host, "--port", port,
                "--db-filename", folder / "temporal.db", "--log-level", "never",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def close(self) -> None:
        """End the server."""
        self._server.terminate()

    async def until_up(self) -> None:
        """Wait for the server."""
        for _ in range(200):
            try:
                self._client = await Client.connect(self._address)
                async for _run in self._client.list_workflows(limit=1):
                    break
                return
            except Exception:  # noqa: BLE001  (whatever it is, the server is not up)
                await asyncio.sleep(0.3)
        raise SystemExit("the dev server does not answer")

    async def connect(self) -> None:
        self._client = await Client.connect(self._address)

    async def start(self, steps: int, width: int) -> Any:
        return await self._client.start_workflow(
            "run", args=[{"of": "bench"}, steps, width], id=str(uuid.uuid4()), task_queue=QUEUE
        )

    async def ended(self, handles: Sequence[Any]) -> None:
        await asyncio.gather(*(handle.result() for handle in handles))

    def pids(self) -> dict[str, int]:
        return {"server": self._server.pid}


async def work(address: str) -> None:
    """Be the worker until killed."""
    worker = Worker(
        await Client.connect(address), task_queue=QUEUE, workflows=[Run], activities=[step],
        workflow_runner=UnsandboxedWorkflowRunner(), max_concurrent_activities=AT_ONCE,
        max_concurrent_workflow_tasks=AT_ONCE,
    )  # fmt: skip
    print("ready", flush=True)
    await worker.run()


async def main(address: str, folder: Path) -> None:
    peer = TemporalPeer(address, folder)
    await peer.until_up()
    worker = start_worker([sys.executable, __file__, "worker", address])
    await drive(peer, worker)
    peer.close()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        uvloop.run(work(sys.argv[2]))
    else:
        uvloop.run(main(sys.argv[2], Path(sys.argv[3])))
