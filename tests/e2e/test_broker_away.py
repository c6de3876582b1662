"""The services start while there is no broker: their doors serve, what happens is kept, and all of it goes out later."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.town import Town, until

from chassis.ids import new_id
from contracts.catalog import SERVICES
from remit_local.environment import whole_environment
from remit_local.platform.roster import edge_is_ready
from remit_local.process import Command

_UNSENT = "select count(*) from outbox"
_FACTS = "select count(*) from fact_log"
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


async def _ended(town: Town, run_id: str) -> str:
    status = str((await town.ask("GET", f"/v1/runs/{run_id}", town.north.key)).json["status"])
    return status if status in ("completed", "failed", "timed_out", "cancelled") else ""


async def _is_whole(town: Town) -> bool:
    entries, distinct = (await town.platform.query("audit", _ENTRIES))[0]
    parked = "select count(*) from parked_fact where stream like 'sink.%' and resolved_at is null"
    aside = (await town.platform.query("audit", parked))[0][0]
    unsent, facts = await _everywhere(town, _UNSENT), await _everywhere(town, _FACTS)
    return unsent == 0 and bool(entries == distinct) and bool(entries + aside == facts)
