from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.factories import HTTP, WRITER, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_allowed_hosts import allow
from services.execution.tests.usecases.test_rollbacks import LEAKY, rollback, save

from chassis.errors import ConflictError, LimitExceededError, NotFoundError
from chassis.ids import new_id
from execution.tables.agents import Agent
from execution.usecases import agent_versions, agents, promotions
from resources.upserts import Applied

pytestmark = pytest.mark.anyio
THIRD = WRITER.replace("one sentence", "two sentences")


async def staging(stage: Stage, place: Place, **fields: Any) -> Place:
    """The workspace that takes its agents from the place's own."""
    after = Place(place.organization_id, new_id())
    given = {"name": "staging", "environment_type": "staging", "promotion_from": place.workspace_id, **fields}
    await stage.workspace(after, after.workspace_id, **given)
    return after


async def promote(stage: Stage, place: Place, agent_id: UUID, semver: str = "current") -> Applied[Agent]:
    async with stage.units.begin(place.caller()) as uow:
        done = await promotions.promote_agent(uow, agent_id, to_workspace="staging", semver=semver)
        assert isinstance(done, Applied)
        return done


async def refused(stage: Stage, place: Place, agent_id: UUID, semver: str = "current") -> str:
    told = len(await stage.bodies(place.organization_id))
    count = "select count(*) from agent_version where organization_id = $1"
    before = (await stage.sql(count, place.organization_id))[0][0]
    with pytest.raises(ConflictError) as error:
        await promote(stage, place, agent_id, semver)
    assert len(await stage.bodies(place.organization_id)) == told
    assert (await stage.sql(count, place.organization_id))[0][0] == before
    return error.value.code


async def test_promote_agent_copies_a_version_unchanged(stage: Stage, place: Place) -> None:
    after = await staging(stage, place)
    agent = await make_agent(stage, place, description="writes", risk_level="high")
    await save(stage, place, agent.id, HTTP)
    done = await promote(stage, place, agent.id)
    assert done.changed == ["created"]
    copy = done.row
    assert (copy.workspace_id, copy.name, copy.current_version) == (after.workspace_id, "writer", "1.0.1")
    assert (copy.description, copy.risk_level, copy.previous_version) == ("writes", "high", None)
    async with stage.units.begin(place.caller()) as uow:
        original = await agent_versions.get_agent_version(uow, agent.id, "1.0.1")
        version = await agent_versions.get_agent_version(uow, copy.id, "current")
    assert version.promoted_from == original.id
    assert original.promoted_from is None
    same = ("semver", "digest", "config", "config_yaml", "graph")
    assert [getattr(version, name) for name in same] == [getattr(original, name) for name in same]
    facts = (await stage.bodies(place.organization_id))[-3:]
    assert [fact["type"].removeprefix("execution.") for fact in facts] == [
        "agent_version.created.v1", "agent.created.v1", "agent.promoted.v1",
    ]  # fmt: skip
    told = facts[-1]["data"]
    assert (told["agent_id"], told["from_agent_id"]) == (str(copy.id), str(agent.id))
    assert (told["digest"], told["promoted_from"]) == (original.digest, str(original.id))


async def test_promote_agent_again_changes_nothing(stage: Stage, place: Place) -> None:
    await staging(stage, place)
    agent = await make_agent(stage, place)
    first = await promote(stage, place, agent.id)
    told = len(await stage.bodies(place.organization_id))
    again = await promote(stage, place, agent.id, "1.0.0")
    assert (again.row.id, again.row.version, again.changed) == (first.row.id, first.row.version, [])
    assert len(await stage.bodies(place.organization_id)) == told


async def test_promote_agent_brings_the_next_version_to_the_same_agent(stage: Stage, place: Place) -> None:
    await staging(stage, place)
    agent = await make_agent(stage, place)
    first = await promote(stage, place, agent.id)
    await save(stage, place, agent.id, HTTP)
    second = await promote(stage, place, agent.id)
    assert (second.row.id, second.row.current_version, second.changed) == (first.row.id, "1.0.1", ["version"])
    assert (await rollback(stage, place, second.row.id)).current_version == "1.0.0"
    again = await promote(stage, place, agent.id)
    assert (again.row.current_version, again.row.rolled_back_from, again.changed) == ("1.0.1", None, ["version"])


async def test_promote_agent_never_goes_below_what_is_there(stage: Stage, place: Place) -> None:
    await staging(stage, place)
    agent = await make_agent(stage, place)
    for text in (HTTP, THIRD):
        await save(stage, place, agent.id, text)
    first = await promote(stage, place, agent.id, "1.0.1")
    assert await refused(stage, place, agent.id, "1.0.0") == "version_not_higher"
    async with stage.units.begin(place.caller()) as uow:
        await agent_versions.create_agent_version(
            uow, first.row.id, config_yaml=WRITER, change_summary="by hand", semver="1.0.2"
        )
    assert await refused(stage, place, agent.id, "1.0.2") == "version_differs"
    assert await refused(stage, place, agent.id, "1.0.1") == "version_not_higher"


async def test_promote_agent_needs_a_path(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await staging(stage, place, promotion_from=None)
    assert await refused(stage, place, agent.id) == "no_promotion_path"
    with pytest.raises(NotFoundError):
        async with stage.units.begin(place.caller()) as uow:
            await promotions.promote_agent(uow, agent.id, to_workspace="production", semver="current")


async def test_promote_agent_needs_a_scan_that_passed(stage: Stage, place: Place) -> None:
    await staging(stage, place)
    leaky = await make_agent(stage, place, "leaky", LEAKY)
    assert await refused(stage, place, leaky.id) == "security_scan_failed"
    caller = await make_agent(stage, place, "caller", HTTP)
    await allow(stage, place, "other.example.com")
    assert await refused(stage, place, caller.id) == "security_scan_failed"
    await allow(stage, place, "agents.example.com")
    assert (await promote(stage, place, caller.id)).changed == ["created"]


async def test_promote_agent_counts_as_a_new_agent(stage: Stage, place: Place) -> None:
    await staging(stage, place, max_agents=1)
    one, two = await make_agent(stage, place, "one"), await make_agent(stage, place, "two")
    await promote(stage, place, one.id)
    with pytest.raises(LimitExceededError):
        await promote(stage, place, two.id)


async def test_promote_agent_that_was_deleted_there_makes_another(stage: Stage, place: Place) -> None:
    await staging(stage, place)
    agent = await make_agent(stage, place)
    first = await promote(stage, place, agent.id)
    async with stage.units.begin(place.caller()) as uow:
        await agents.delete_agent(uow, first.row.id)
    second = await promote(stage, place, agent.id)
    assert (second.changed, second.row.id != first.row.id) == (["created"], True)


async def test_promote_at_the_door(stage: Stage, place: Place) -> None:
    after = await staging(stage, place)
    agent = await make_agent(stage, place)
    path, body = f"/v1/agents/{agent.id}/promote", {"to_workspace": str(after.workspace_id)}
    for role in ("developer", "operator", "viewer"):
        assert (await stage.client(place.caller(role)).post(path, body)).status == 403
    admin = stage.client(place.caller())
    done = await admin.post(path, body)
    assert (done.status, done.json()["changed"]) == (200, ["created"])
    shown = (await admin.get(f"/v1/agents/{done.json()['agent']['id']}/versions/1.0.0")).json()
    assert shown["promoted_from"] == str(agent.current_version_id)
    assert (await admin.post(path, {"to_workspace": "main"})).code == "no_promotion_path"
