from __future__ import annotations

import pytest
from services.execution.tests.factories import HTTP, PAIR, WRITER, agent_file, ids, make_agent
from services.execution.tests.stage import Place, Stage, permit

from chassis.errors import ConflictError, InvalidError
from chassis.ids import new_id
from execution.usecases import agent_versions, agents, orchestration_files, orchestration_versions, orchestrations
from execution.usecases.orchestration_references import pin_references

pytestmark = pytest.mark.anyio


async def _make(stage: Stage, place: Place, agent_ids: dict[str, dict[str, str]]) -> orchestrations.Orchestration:
    async with stage.units.begin(place.caller()) as uow:
        return await orchestrations.create_orchestration(
            uow, config_yaml=PAIR, workspace=place.workspace_id, name="pair", agent_ids=agent_ids, fields={}
        )


async def test_create_orchestration_compiles_it_and_tells(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    made = await _make(stage, place, ids(writer=writer, editor=editor))
    assert made.pattern == "sequential"
    assert (await stage.types(place.organization_id))[-2:] == [
        "orchestration_version.created.v1",
        "orchestration.created.v1",
    ]
    async with stage.units.begin(place.caller()) as uow:
        version = await orchestration_versions.get_orchestration_version(uow, made.id, "current")
    assert [node["id"] for node in version.graph["nodes"]] == ["draft", "edit"]


async def test_an_alias_without_an_agent_is_named(stage: Stage, place: Place) -> None:
    writer = await make_agent(stage, place, "w")
    gone = {**ids(writer=writer), "editor": {"id": str(new_id()), "version": "current"}}
    with pytest.raises(InvalidError) as refused:
        await _make(stage, place, gone)
    assert refused.value.code == "unknown_agent"
    assert [error["loc"] for error in refused.value.errors] == [["agents", "editor"]]


async def test_an_agent_of_another_organization_is_unknown(stage: Stage, place: Place) -> None:
    stranger = await stage.place()
    theirs, ours = await make_agent(stage, stranger, "w"), await make_agent(stage, place, "w")
    with pytest.raises(InvalidError, match="editor"):
        await _make(stage, place, ids(writer=ours, editor=theirs))


async def test_a_version_that_does_not_exist_is_unknown(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    wanted = ids(writer=writer, editor=editor)
    wanted["editor"]["version"] = "9.9.9"
    with pytest.raises(InvalidError, match="editor"):
        await _make(stage, place, wanted)


async def test_pins_are_exact_and_follow_current(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    wanted = ids(writer=writer, editor=editor)
    wanted["editor"]["version"] = "1.0.0"
    async with stage.units.begin(place.caller()) as uow:
        for agent in (writer, editor):
            await agent_versions.create_agent_version(uow, agent.id, config_yaml=HTTP, change_summary="", semver=None)
    async with stage.units.begin(place.caller()) as uow:
        pins, risk = await pin_references(uow, wanted)
    assert risk == "low"
    assert (pins["writer"]["semver"], pins["editor"]["semver"]) == ("1.0.1", "1.0.0")
    assert pins["writer"]["agent_id"] == str(writer.id)
    assert pins["editor"]["version_id"] == str(editor.current_version_id)


async def test_a_run_needs_every_agent_alive_and_clean(stage: Stage, place: Place) -> None:
    leaky = WRITER.replace("one sentence", "sk-" + "b2" * 15)
    good, bad = await make_agent(stage, place, "w"), await make_agent(stage, place, "e", leaky)
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(ConflictError) as refused:
            await pin_references(uow, ids(writer=good, editor=bad))
        assert refused.value.code == "security_scan_failed"
    async with stage.units.begin(place.caller()) as uow:
        await agents.delete_agent(uow, good.id)
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(ConflictError) as refused:
            await pin_references(uow, ids(writer=good))
        assert refused.value.code == "agent_gone"


async def test_applying_an_orchestrations_file_finds_agents_by_name(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, "w")
    second = await make_agent(stage, place, "w2")
    caller = place.caller()

    async def apply(file: str) -> orchestration_files.Applied:
        async with stage.units.begin(caller) as uow:
            may = permit(caller, "orchestration:update")
            return await orchestration_files.apply_orchestration(uow, file=file, workspace="main", may_update=may)

    agents_of = "agents:\n  writer: {name: w}\n  editor: {name: %s, version: current}\n"
    assert (await apply(agent_file("pair", agents_of % "w" + PAIR))).changed == ["created"]
    assert (await apply(agent_file("pair", agents_of % "w" + PAIR))).changed == []
    changed = await apply(agent_file("pair", agents_of % "w2" + PAIR))
    assert changed.changed == ["version"]
    assert changed.row.current_version == "1.0.1"
    assert isinstance(changed.row, orchestrations.Orchestration)
    assert changed.row.agent_ids["editor"]["id"] == str(second.id)


async def test_a_new_version_keeps_the_agents_unless_told(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    made = await _make(stage, place, ids(writer=writer, editor=editor))
    longer = PAIR.replace("max_steps: 5", "max_steps: 6")
    async with stage.units.begin(place.caller()) as uow:
        second = await orchestration_versions.create_orchestration_version(
            uow, made.id, config_yaml=longer, agent_ids=None, change_summary="", semver=None
        )
    assert second.agent_ids == made.agent_ids
    async with stage.units.begin(place.caller()) as uow:
        swapped = await orchestration_versions.create_orchestration_version(
            uow,
            made.id,
            config_yaml=longer,
            agent_ids=ids(writer=editor, editor=writer),
            change_summary="",
            semver=None,
        )
    assert (second.semver, swapped.semver) == ("1.0.1", "1.0.2")
    async with stage.units.begin(place.caller()) as uow:
        back = await orchestration_versions.set_current_orchestration_version(
            uow, made.id, semver="1.0.0", expected_version=3
        )
    assert back.agent_ids["writer"]["id"] == str(writer.id)


async def test_an_orchestration_may_stand_behind_an_alias_and_is_pinned(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    below = await _make(stage, place, ids(writer=writer, editor=editor))
    text = "apiVersion: orchestration/v1\npattern: sequential\nsteps: [{id: one, orchestration: pair}]\n"
    file = f"{text}metadata: {{name: above}}\norchestrations: {{pair: {{name: pair}}}}\n"
    async with stage.units.begin(place.caller()) as uow:
        applied = await orchestration_files.apply_orchestration(
            uow, file=file, workspace=str(place.workspace_id), may_update=permit(place.caller(), "orchestration:update")
        )
        kept = applied.row.agent_ids
        pins, _ = await pin_references(uow, kept)
    assert kept == {"pair": {"id": str(below.id), "version": "current", "kind": "orchestration"}}
    assert pins["pair"] == {
        "orchestration_id": str(below.id), "version_id": str(below.current_version_id), "semver": "1.0.0",
    }  # fmt: skip
    async with stage.units.begin(place.caller()) as uow:
        await orchestrations.delete_orchestration(uow, below.id)
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(ConflictError) as refused:
            await pin_references(uow, kept)
    assert refused.value.code == "orchestration_gone"


async def test_an_alias_without_an_orchestration_is_named(stage: Stage, place: Place) -> None:
    text = "apiVersion: orchestration/v1\npattern: sequential\nsteps: [{id: one, orchestration: pair}]\n"
    gone = {"pair": {"id": str(new_id()), "version": "current", "kind": "orchestration"}}
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(InvalidError) as refused:
            await orchestrations.create_orchestration(
                uow, config_yaml=text, workspace=place.workspace_id, name="above", agent_ids=gone, fields={}
            )
    assert refused.value.code == "unknown_orchestration"
    assert [error["loc"] for error in refused.value.errors] == [["orchestrations", "pair"]]
