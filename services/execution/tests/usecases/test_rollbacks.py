from __future__ import annotations

from uuid import UUID

import pytest
from services.execution.tests.factories import HTTP, PAIR, WRITER, ids, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import start

from chassis.errors import ConflictError, NotFoundError
from execution.tables.agents import Agent
from execution.usecases import agent_versions, orchestration_versions, orchestrations, rollbacks

pytestmark = pytest.mark.anyio
LEAKY = WRITER.replace("one sentence", "sk-" + "a1" * 15)


async def save(stage: Stage, place: Place, agent_id: UUID, config_yaml: str) -> None:
    async with stage.units.begin(place.caller()) as uow:
        await agent_versions.create_agent_version(
            uow, agent_id, config_yaml=config_yaml, change_summary="", semver=None
        )  # fmt: skip


async def rollback(stage: Stage, place: Place, agent_id: UUID, to: str | None = None) -> Agent:
    async with stage.units.begin(place.caller()) as uow:
        return await rollbacks.rollback_agent(uow, agent_id, to=to, reason="answers got worse")


async def test_rollback_agent_goes_one_back_and_says_why(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await save(stage, place, agent.id, HTTP)
    back = await rollback(stage, place, agent.id)
    assert (back.current_version, back.agent_type, back.config_yaml) == ("1.0.0", "llm", WRITER)
    assert (back.previous_version, back.rolled_back_from) == ("1.0.1", "1.0.1")
    fact = (await stage.bodies(place.organization_id))[-1]
    assert fact["type"] == "execution.agent.rolled_back.v1"
    assert fact["data"]["changes"] == {"current_version": ["1.0.1", "1.0.0"]}
    assert fact["data"]["reason"] == "answers got worse"
    rows = await stage.sql("select semver from agent_version where agent_id = $1 and is_current", agent.id)
    assert [row["semver"] for row in rows] == ["1.0.0"]


async def test_rollback_agent_again_changes_nothing(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await save(stage, place, agent.id, HTTP)
    first = await rollback(stage, place, agent.id)
    told = len(await stage.bodies(place.organization_id))
    for to in (None, "1.0.0"):
        again = await rollback(stage, place, agent.id, to)
        assert (again.current_version, again.version) == ("1.0.0", first.version)
    assert len(await stage.bodies(place.organization_id)) == told


async def test_rollback_agent_to_a_version_and_forward_again(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    for text in (HTTP, WRITER):
        await save(stage, place, agent.id, text)
    assert (await rollback(stage, place, agent.id, "1.0.0")).current_version == "1.0.0"
    await save(stage, place, agent.id, HTTP)
    assert (await rollback(stage, place, agent.id)).current_version == "1.0.0"
    with pytest.raises(NotFoundError):
        await rollback(stage, place, agent.id, "7.0.0")


async def test_rollback_agent_without_another_version_is_refused(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    with pytest.raises(ConflictError) as refused:
        await rollback(stage, place, agent.id)
    assert refused.value.code == "no_earlier_version"


async def test_rollback_agent_to_what_could_not_run_is_refused(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=LEAKY)
    await save(stage, place, agent.id, WRITER)
    with pytest.raises(ConflictError) as refused:
        await rollback(stage, place, agent.id)
    assert refused.value.code == "security_scan_failed"


async def test_rollback_agent_leaves_runs_on_what_they_pinned(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await save(stage, place, agent.id, HTTP)
    run = await start(stage, place.caller())
    before = (await stage.sql("select version_id, semver, pins from run where id = $1", run.id))[0]
    await rollback(stage, place, agent.id)
    assert (await stage.sql("select version_id, semver, pins from run where id = $1", run.id))[0] == before
    assert before["semver"] == "1.0.1"
    assert (await start(stage, place.caller())).semver == "1.0.0"


async def test_rollback_orchestration_brings_its_agents_back_too(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    async with stage.units.begin(place.caller()) as uow:
        pair = await orchestrations.create_orchestration(
            uow, config_yaml=PAIR, workspace=None, name="pair", agent_ids=ids(writer=writer, editor=editor), fields={}
        )
    async with stage.units.begin(place.caller()) as uow:
        await orchestration_versions.create_orchestration_version(
            uow, pair.id, config_yaml=PAIR, agent_ids=ids(writer=editor, editor=writer), change_summary="", semver=None
        )
    for _ in range(2):
        async with stage.units.begin(place.caller()) as uow:
            back = await rollbacks.rollback_orchestration(uow, pair.id, to=None, reason="worse")
        assert (back.current_version, back.agent_ids["writer"]["id"]) == ("1.0.0", str(writer.id))
    told = await stage.types(place.organization_id)
    assert (told[-1], told.count("orchestration.rolled_back.v1")) == ("orchestration.rolled_back.v1", 1)


async def test_rollback_at_the_door(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await save(stage, place, agent.id, HTTP)
    path = f"/v1/agents/{agent.id}/rollback"
    assert (await stage.client(place.caller("operator")).post(path)).status == 403
    assert (await stage.client(place.caller("developer")).post(path)).status == 404
    done = await stage.client(place.caller()).post(path)
    assert (done.status, done.json()["current_version"], done.json()["rolled_back_from"]) == (200, "1.0.0", "1.0.1")
    assert (await stage.client(place.caller()).post(path, {"to": "1.0.0", "why": ""})).status == 422
