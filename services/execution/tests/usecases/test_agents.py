from __future__ import annotations

import asyncio

import pytest
from services.execution.tests.factories import HTTP, WRITER, agent_file, make_agent
from services.execution.tests.stage import Place, Stage, permit
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chassis.errors import ConflictError, ForbiddenError, LimitExceededError, NotFoundError, StaleVersionError
from chassis.ids import new_id
from execution.domain.problems import DefinitionError
from execution.usecases import agent_files, agent_versions, agents
from execution.usecases.run_subjects import find_subject

pytestmark = pytest.mark.anyio


async def test_create_agent_saves_its_first_version_and_tells(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    assert agent.current_version == "1.0.0"
    assert await stage.types(place.organization_id) == ["agent_version.created.v1", "agent.created.v1"]
    async with stage.units.begin(place.caller()) as uow:
        version = await agent_versions.get_agent_version(uow, agent.id, "current")
    assert version.id == agent.current_version_id
    assert version.is_current
    assert version.graph["nodes"][0]["agent"] == "self"
    assert version.security_scan_status == "passed"


async def test_create_agent_names_every_problem_with_its_line(stage: Stage, place: Place) -> None:
    with pytest.raises(DefinitionError) as refused:
        await make_agent(
            stage, place, config_yaml="apiVersion: agent/v1\nkind: llm\nmodel: {provider: nobody}\nwhat: 1"
        )
    assert {problem.line for problem in refused.value.problems} == {3, 4}
    assert await stage.bodies(place.organization_id) == []


async def test_create_agent_twice_is_a_conflict(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    with pytest.raises(ConflictError) as refused:
        await make_agent(stage, place)
    assert refused.value.code == "already_exists"


async def test_create_agent_in_a_workspace_on_its_way_says_so(stage: Stage, place: Place) -> None:
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(ConflictError) as refused:
            await agents.create_agent(uow, config_yaml=WRITER, workspace=new_id(), name="a", fields={})
    assert refused.value.code == "not_yet_known"


async def test_the_plans_number_of_agents_holds_under_concurrency(stage: Stage, place: Place) -> None:
    await stage.subscription(place, agents=3)

    async def one(number: int) -> bool:
        try:
            await make_agent(stage, place, f"agent {number}")
        except LimitExceededError:
            return False
        return True

    made = await asyncio.gather(*(one(number) for number in range(8)))
    assert sum(made) == 3
    count = await stage.sql("select count(*) from agent where organization_id = $1", place.organization_id)
    assert count[0][0] == 3


async def test_the_workspaces_number_of_agents_holds_too(stage: Stage) -> None:
    place = await stage.place(max_agents=1)
    await make_agent(stage, place, "one")
    with pytest.raises(LimitExceededError) as refused:
        await make_agent(stage, place, "two")
    assert refused.value.code == "max_agents_of_workspace"


async def test_a_new_version_is_current_and_the_same_one_changes_nothing(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        second = await agent_versions.create_agent_version(
            uow, agent.id, config_yaml=HTTP, change_summary="elsewhere", semver=None
        )
    async with stage.units.begin(place.caller()) as uow:
        again = await agent_versions.create_agent_version(
            uow, agent.id, config_yaml=HTTP, change_summary="", semver=None
        )
        now = await agents.get_agent(uow, agent.id)
    assert (second.semver, again.id) == ("1.0.1", second.id)
    assert (now.current_version, now.agent_type, now.version) == ("1.0.1", "http", 2)
    rows = await stage.sql("select semver, is_current from agent_version where agent_id = $1 order by semver", agent.id)
    assert [tuple(row) for row in rows] == [("1.0.0", False), ("1.0.1", True)]


async def test_an_earlier_version_runs_again_and_the_next_is_above_all(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        await agent_versions.create_agent_version(uow, agent.id, config_yaml=HTTP, change_summary="", semver="2.0.0")
    async with stage.units.begin(place.caller()) as uow:
        back = await agent_versions.set_current_agent_version(uow, agent.id, semver="1.0.0", expected_version=2)
        assert (back.current_version, back.agent_type) == ("1.0.0", "llm")
    async with stage.units.begin(place.caller()) as uow:
        third = await agent_versions.create_agent_version(
            uow, agent.id, config_yaml=HTTP, change_summary="", semver=None
        )
    assert third.semver == "2.0.1"


async def test_a_version_is_immutable_even_to_the_service(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    change = text("update agent_version set config_yaml = 'x' where agent_id = :agent_id")
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(DBAPIError, match="permission denied"):
            await uow.execute(change, {"agent_id": agent.id})


async def test_a_secret_in_a_definition_fails_its_scan(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=WRITER.replace("one sentence", "sk-" + "a1" * 15))
    rows = await stage.sql(
        "select security_scan_status s, security_scan_results r from agent_version where agent_id = $1", agent.id
    )
    assert rows[0]["s"] == "failed"
    assert "provider_key" in rows[0]["r"]
    assert "a1a1" not in rows[0]["r"]


async def test_update_agent_says_what_changed(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        changed = await agents.update_agent(uow, agent.id, {"risk_level": "high"}, expected_version=1)
    assert changed.version == 2
    fact = (await stage.bodies(place.organization_id))[-1]
    assert fact["type"] == "execution.agent.updated.v1"
    assert fact["data"]["changes"] == {"risk_level": ["low", "high"]}
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(StaleVersionError):
            await agents.update_agent(uow, agent.id, {"risk_level": "low"}, expected_version=1)


async def test_a_deleted_agent_is_gone_its_name_free_and_it_can_come_back(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        await agents.delete_agent(uow, agent.id)
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(NotFoundError):
            await agents.get_agent(uow, agent.id)
    successor = await make_agent(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(ConflictError):
            await agents.restore_agent(uow, agent.id)
    async with stage.units.begin(place.caller()) as uow:
        await agents.delete_agent(uow, successor.id)
    async with stage.units.begin(place.caller()) as uow:
        assert (await agents.restore_agent(uow, agent.id)).deleted_at is None


async def test_applying_a_file_again_changes_nothing(stage: Stage, place: Place) -> None:
    caller = place.caller()
    may = permit(caller, "agent:update")

    async def apply(file: str) -> agent_files.Applied:
        async with stage.units.begin(caller) as uow:
            return await agent_files.apply_agent(uow, file=file, workspace=None, may_update=may)

    assert (await apply(agent_file("a"))).changed == ["created"]
    told = len(await stage.bodies(place.organization_id))
    assert (await apply(agent_file("a"))).changed == []
    assert len(await stage.bodies(place.organization_id)) == told
    assert (await apply(agent_file("a", description="new words"))).changed == ["description"]
    changed = await apply(agent_file("a", HTTP, description="new words", version='"1.2.0"'))
    assert (changed.changed, changed.row.current_version) == (["version"], "1.2.0")


async def test_a_developer_cannot_apply_over_somebody_elses_agent(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, "a")
    caller = place.caller("developer")
    async with stage.units.begin(caller) as uow:
        with pytest.raises(ForbiddenError) as refused:
            await agent_files.apply_agent(
                uow,
                file=agent_file("a", HTTP),
                workspace=None,
                may_update=permit(caller, "agent:update", own_only=True),
            )
    assert refused.value.code == "not_yours"


async def test_another_organization_sees_nothing_of_it(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    stranger = await stage.place()
    async with stage.units.begin(stranger.caller()) as uow:
        with pytest.raises(NotFoundError):
            await agents.get_agent(uow, agent.id)
        with pytest.raises(NotFoundError):
            await find_subject(uow, "agent", "writer", workspace=None, semver="current")
