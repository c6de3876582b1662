from __future__ import annotations

from typing import Any

import pytest
from services.execution.tests.factories import HTTP, WRITER, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import start

from chassis.errors import ConflictError, LimitExceededError
from execution.tables.agents import Agent
from execution.usecases import agent_versions, allowed_hosts

pytestmark = pytest.mark.anyio


async def allow(stage: Stage, place: Place, host: str) -> allowed_hosts.AllowedHost:
    async with stage.units.begin(place.caller()) as uow:
        return await allowed_hosts.create_allowed_host(uow, host=host)


async def scan_of(stage: Stage, place: Place, agent: Agent) -> dict[str, Any]:
    async with stage.units.begin(place.caller()) as uow:
        version = await agent_versions.get_agent_version(uow, agent.id, "current")
    return {"status": version.security_scan_status, **version.security_scan_results}


async def test_a_version_is_scanned_when_it_is_saved(stage: Stage, place: Place) -> None:
    scan = await scan_of(stage, place, await make_agent(stage, place, config_yaml=HTTP))
    assert (scan["status"], scan["passed"], scan["left_out"]) == ("passed", True, 0)
    assert [(found["code"], found["severity"]) for found in scan["findings"]] == [
        ("unknown_host", "low"), ("no_time_limit", "low"),
    ]  # fmt: skip
    assert all(found["message"] for found in scan["findings"])


async def test_a_host_that_the_list_does_not_name_fails_the_scan(stage: Stage, place: Place) -> None:
    before = await make_agent(stage, place, "before", config_yaml=HTTP)
    elsewhere = await stage.place()
    await allow(stage, place, "tools.example.com")
    agent = await make_agent(stage, place, config_yaml=HTTP)
    assert (await scan_of(stage, place, agent))["passed"] is False
    with pytest.raises(ConflictError) as refused:
        await start(stage, place.caller(), input={})
    assert refused.value.code == "security_scan_failed"
    assert (await scan_of(stage, place, before))["passed"] is True
    theirs = await make_agent(stage, elsewhere, config_yaml=HTTP)
    assert (await scan_of(stage, elsewhere, theirs))["passed"] is True
    await allow(stage, place, "*.example.com")
    assert (await scan_of(stage, place, await make_agent(stage, place, "after", config_yaml=HTTP)))["passed"] is True


async def test_an_allowed_host_is_told_once_and_taken_back(stage: Stage, place: Place) -> None:
    row = await allow(stage, place, "a.example.com")
    with pytest.raises(ConflictError) as refused:
        await allow(stage, place, "a.example.com")
    assert refused.value.code == "already_exists"
    async with stage.units.begin(place.caller()) as uow:
        await allowed_hosts.delete_allowed_host(uow, row.id)
    async with stage.units.begin(place.caller()) as uow:
        assert await allowed_hosts.known_hosts(uow) == frozenset()
    assert await stage.types(place.organization_id) == ["allowed_host.created.v1", "allowed_host.deleted.v1"]


async def test_the_list_of_allowed_hosts_has_an_end(
    stage: Stage, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowed_hosts, "MAX_ALLOWED_HOSTS", 1)
    await allow(stage, place, "a.example.com")
    with pytest.raises(LimitExceededError):
        await allow(stage, place, "b.example.com")


async def test_allowed_hosts_at_the_door(stage: Stage, place: Place) -> None:
    developer, admin = stage.client(place.caller("developer")), stage.client(place.caller())
    assert (await developer.post("/v1/allowed-hosts", {"host": "a.example.com"})).status == 403
    for wrong in ("https://a.example.com", "a.example.com:443", "*"):
        assert (await admin.post("/v1/allowed-hosts", {"host": wrong})).status == 422
    assert (await admin.post("/v1/allowed-hosts", {"host": "A.Example.com."})).json()["host"] == "a.example.com"
    assert (await developer.get("/v1/allowed-hosts/count")).json() == {"count": 1}


async def test_a_scan_is_shown_with_its_version(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=WRITER.replace("one sentence", "sk-" + "a1" * 15))
    path = f"/v1/agents/{agent.id}/versions"
    for shown in (
        (await stage.client(place.caller()).get(f"{path}/current")).json(),
        (await stage.client(place.caller()).get(path)).json()["items"][0],
    ):
        results = shown["security_scan_results"]
        assert (results["passed"], results["findings"][0]["code"]) == (False, "provider_key")
        assert results["findings"][0]["path"] == "instructions"
