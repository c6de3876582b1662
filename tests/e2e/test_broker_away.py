"""The services start while there is no broker: their doors serve, what happens is kept, and all of it goes out later."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.town import Town, until

from chassis.ids import new_id
from contracts.catalog import SERVICES
from remit_local.environment import whole_environment
from remit_local.platform.roster import edge_is_ready
from remit_local.process import Command

_UNSENT = "select count(*) from outbox"
_FACTS = "select count(*) from fact_log"
_SILENT = "update producer_freshness set attested_at = now() - interval '1 hour' where producer = 'identity'"
_ENTRIES = "select count(*), count(distinct (producer, sequence)) from entry"


@asynccontextmanager
async def _services_without_a_broker(town: Town) -> AsyncIterator[None]:
    """Everything but the broker, on the town's own data; afterwards the platform stands as before."""
    installation = town.platform.installation
    await town.platform.stop()
    await installation.postgres.start_async()
    told = {**town.told, **installation.whole_environment(own_ports=False)}
    command = Command(installation.python("remit_local.platform.host"), whole_environment(told), town.platform.folder)
    host = _launched(command, town.platform.folder / "logs" / "without-broker.log")
    try:
        await until(lambda: edge_is_ready(installation.edge_port), "the edge serves without a broker", 60)
        yield
    finally:
        host.terminate()
        host.wait(30)
        await installation.rabbitmq.stop_async()
        await installation.postgres.stop_async()
        town.platform.start()
        await town.platform.until_ready()


def _launched(command: Command, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command.launched(), env=command.env, cwd=command.cwd, stdout=output, stderr=output)


async def _everywhere(town: Town, statement: str) -> int:
    return sum([(await town.platform.query(service, statement))[0][0] for service in SERVICES])


@pytest.mark.anyio
@pytest.mark.seconds(240)
async def test_without_a_broker_doors_serve_and_nothing_is_lost(town: Town) -> None:
    key = town.north.key
    async with _services_without_a_broker(town):
        health = await town.health()
        assert health["ready"] is True
        assert health["degraded"] != []
        workspace = await town.workspace(town.north, f"w {new_id().hex[-8:]}")
        run = await town.ask("POST", "/v1/runs", key, {"agent": "worker", "input": {"topic": "rain"}})
        assert run.status == 202, run.body
        assert (await town.ask("GET", f"/v1/workspaces/{workspace}", key)).status == 200
        assert (await town.ask("GET", "/v1/agents", key)).status == 200
        assert await _everywhere(town, _UNSENT) >= 2
        agent = {
            "name": f"a {workspace[-8:]}",
            "workspace": workspace,
            "config_yaml": "apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}\n",
        }
        unknown = await town.ask("POST", "/v1/agents", key, agent)
        assert unknown.status in (404, 409), unknown.body

        await town.platform.installation.rabbitmq.start_async()
        ended = await until(lambda: _ended(town, run.json["id"]), "the run that waited for the broker ends", 60)
        assert ended == "completed"

        async def is_made() -> bool:
            return (await town.ask("POST", "/v1/agents", key, agent)).status == 201

        await until(is_made, "the workspace is known to execution")
        await until(lambda: _is_whole(town), "every fact is in the audit log, once")

        async def is_sound() -> bool:
            return not (await town.health())["degraded"]

        await until(is_sound, "nothing is degraded any more")
    assert (await town.run(town.north))["status"] == "completed"


@pytest.mark.anyio
@pytest.mark.seconds(240)
async def test_a_kill_switch_works_while_broker_and_identity_are_silent(town: Town) -> None:
    key, query = town.north.key, town.platform.query
    async with _services_without_a_broker(town), _slow_agent(town):
        rabbitmq = town.platform.installation.rabbitmq
        await rabbitmq.start_async()
        run = (await town.ask("POST", "/v1/runs", key, {"agent": "worker", "input": {"topic": "rain"}})).json

        async def is_at_work() -> bool:
            return bool((await town.ask("GET", f"/v1/runs/{run['id']}", key)).json["status"] == "running")

        await until(is_at_work, "the run is at work", 60)
        await asyncio.sleep(1)  # its call has left
        await rabbitmq.stop_async()
        await town.execute("gateway", _SILENT)

        async def is_refused() -> bool:
            return (await town.ask("GET", f"/v1/runs/{run['id']}", key)).status == 503

        await until(is_refused, "the edge believes nobody any more")
        body = {"scope": "run", "target_id": run["id"], "reason": "runs away"}
        began = time.monotonic()
        switch = await town.ask("POST", "/v1/kill-switches", key, body)
        assert switch.status == 201, switch.body
        assert switch.json["stopped"] + switch.json["stopping"] == 1

        async def end() -> Any:
            row = (await query("execution", "select * from run where id = $1", UUID(run["id"])))[0]
            return row if row["status"] == "cancelled" else None

        row = await until(end, "the run is stopped", 2)
        assert time.monotonic() - began < 2
        assert (row["stop_reason"], str(row["kill_switch_id"])) == ("killed", switch.json["id"])
        again = await town.ask("POST", "/v1/kill-switches", key, body)
        steps = await query("execution", "select id from step where run_id = $1", UUID(run["id"]))
        assert (again.json["id"], again.json["stopped"], again.json["stopping"]) == (switch.json["id"], 1, 0)
        assert (len(steps), again.json["calls_left"]) == (1, [str(step["id"]) for step in steps])
        await rabbitmq.start_async()
        await until(lambda: _is_whole(town), "every fact is in the audit log, once", 60)


@asynccontextmanager
async def _slow_agent(town: Town) -> AsyncIterator[None]:
    """The town's agent takes its time, as long as this lasts."""
    url = f"http://{town.told['REMIT_EXECUTION_OUTBOUND_ALLOW']}/script"
    async with town.traffic.session.post(url, json={"*": {"latency_ms": 60_000}}):
        pass
    try:
        yield
    finally:
        async with town.traffic.session.post(url, json={}):
            pass


async def _ended(town: Town, run_id: str) -> str:
    status = str((await town.ask("GET", f"/v1/runs/{run_id}", town.north.key)).json["status"])
    return status if status in ("completed", "failed", "timed_out", "cancelled") else ""


async def _is_whole(town: Town) -> bool:
    entries, distinct = (await town.platform.query("audit", _ENTRIES))[0]
    parked = "select count(*) from parked_fact where stream like 'sink.%' and resolved_at is null"
    aside = (await town.platform.query("audit", parked))[0][0]
    unsent, facts = await _everywhere(town, _UNSENT), await _everywhere(town, _FACTS)
    return unsent == 0 and bool(entries == distinct) and bool(entries + aside == facts)
