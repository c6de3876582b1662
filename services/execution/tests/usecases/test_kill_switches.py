from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import EngineStage, Place, make_engine_stage
from services.execution.tests.factories import PAIR, ids, make_agent
from services.execution.tests.stage import Place as Home
from services.execution.tests.stage import Stage
from services.execution.tests.usecases.test_run_starts import start

from chassis.caller import NOBODY, Caller
from chassis.errors import ConflictError, InvalidError, NotFoundError
from chassis.ids import new_id
from execution.domain.kills import KillScope
from execution.tables.kill_switches import KillSwitch
from execution.usecases import kill_switches, orchestrations
from execution.usecases.admission import Admission
from execution.usecases.kill_switches import KillReport
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


async def engage(stage: Stage, home: Home, scope: KillScope, target: UUID | None = None) -> KillSwitch:
    async with stage.units.begin(home.caller()) as uow:
        return await kill_switches.engage_kill_switch(uow, scope=scope, target_id=target, reason="runs away")


async def report(stage: Stage, home: Home, switch: KillSwitch) -> KillReport:
    async with stage.units.begin(home.caller()) as uow:
        return await kill_switches.read_report(uow, switch)


@pytest.mark.parametrize("scope", list(KillScope))
async def test_what_waits_in_the_scope_ends_and_nothing_else(stage: Stage, place: Home, scope: KillScope) -> None:
    agent = await make_agent(stage, place)
    other = await make_agent(stage, place, name="other")
    run, spared = await start(stage, place.caller()), await start(stage, place.caller(), "other")
    elsewhere = await stage.place()
    await make_agent(stage, elsewhere)
    foreign = await start(stage, elsewhere.caller())
    target = {
        KillScope.ORGANIZATION: None, KillScope.WORKSPACE: place.workspace_id, KillScope.AGENT: agent.id,
        KillScope.VERSION: agent.current_version_id, KillScope.RUN: run.id,
    }[scope]  # fmt: skip
    switch = await engage(stage, place, scope, target)
    rows = {row["id"]: row for row in await stage.sql("select * from run")}
    assert (rows[run.id]["status"], rows[run.id]["stop_reason"]) == ("cancelled", "killed")
    assert rows[run.id]["cancel_reason"] == "killed: runs away"
    is_wide = scope in (KillScope.ORGANIZATION, KillScope.WORKSPACE)
    assert rows[spared.id]["status"] == ("cancelled" if is_wide else "queued")
    assert rows[foreign.id]["status"] == "queued"
    assert await report(stage, place, switch) == KillReport(2 if is_wide else 1, 0, [])
    assert (await stage.types(place.organization_id))[-(3 if is_wide else 2) :] == [
        "kill_switch.engaged.v1", *["run.cancelled.v1"] * (2 if is_wide else 1)
    ]  # fmt: skip
    if scope is KillScope.RUN:
        return
    with pytest.raises(ConflictError) as refused:
        await start(stage, place.caller())
    assert refused.value.code == "killed"
    assert str(switch.id) in refused.value.detail
    if is_wide:
        with pytest.raises(ConflictError):
            await start(stage, place.caller(), "other")
    else:
        assert (await start(stage, place.caller(), "other")).agent_id == other.id
    async with stage.units.begin(place.caller()) as uow:
        await kill_switches.release_kill_switch(uow, switch.id)
    assert (await start(stage, place.caller())).status == "queued"


async def test_an_orchestration_is_stopped_by_its_agents_too(stage: Stage, place: Home) -> None:
    one, two = await make_agent(stage, place), await make_agent(stage, place, name="editor")
    async with stage.units.begin(place.caller()) as uow:
        await orchestrations.create_orchestration(
            uow, config_yaml=PAIR, workspace=None, name="pair", agent_ids=ids(writer=one, editor=two), fields={}
        )
    run = await start(stage, place.caller(), "pair", kind="orchestration")
    await engage(stage, place, KillScope.AGENT, two.id)
    assert (await stage.sql("select status from run where id = $1", run.id))[0]["status"] == "cancelled"
    with pytest.raises(ConflictError):
        await start(stage, place.caller(), "pair", kind="orchestration")
    assert await start(stage, place.caller())


async def test_engaging_and_releasing_twice_change_nothing(stage: Stage, place: Home) -> None:
    first = await engage(stage, place, KillScope.ORGANIZATION)
    assert (await engage(stage, place, KillScope.ORGANIZATION, place.organization_id)).id == first.id
    for _ in range(2):
        async with stage.units.begin(place.caller()) as uow:
            await kill_switches.release_kill_switch(uow, first.id)
    assert await stage.types(place.organization_id) == ["kill_switch.engaged.v1", "kill_switch.released.v1"]
    assert (await engage(stage, place, KillScope.ORGANIZATION)).id != first.id


@pytest.mark.parametrize("scope", list(KillScope))
async def test_a_target_that_is_none_of_yours_is_unknown(stage: Stage, place: Home, scope: KillScope) -> None:
    elsewhere = await stage.place()
    agent = await make_agent(stage, elsewhere)
    run = await start(stage, elsewhere.caller())
    target = {
        KillScope.ORGANIZATION: elsewhere.organization_id, KillScope.WORKSPACE: elsewhere.workspace_id,
        KillScope.AGENT: agent.id, KillScope.VERSION: agent.current_version_id, KillScope.RUN: run.id,
    }[scope]  # fmt: skip
    for unknown in (target, new_id()):
        with pytest.raises(NotFoundError):
            await engage(stage, place, scope, unknown)
    if scope is not KillScope.ORGANIZATION:
        with pytest.raises(InvalidError):
            await engage(stage, place, scope)
    assert (await stage.sql("select status from run where id = $1", run.id))[0]["status"] == "queued"


async def test_what_slips_by_is_stopped_by_the_clock(stage: Stage, place: Home) -> None:
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    switch = await engage(stage, place, KillScope.ORGANIZATION)
    # As if its start had committed in the moment the switch was engaged.
    back = "update run set status = 'queued', completed_at = null, kill_switch_id = null where id = $1"
    await stage.sql(back, run.id)
    async with stage.units.begin(Caller.system(NOBODY, "clock")) as uow:
        assert await kill_switches.sweep_kill_switches(uow) == 1
    assert (await report(stage, place, switch)).stopped == 1


# ------------------------------------------------------------------------------------------- with a worker at work


async def _switch(engine: EngineStage, place: Place, scope: str, target: UUID) -> UUID:
    """A switch as the use case leaves it, with what runs asked to stop."""
    switch_id = new_id()
    await engine.database.sql(
        """insert into kill_switch (id, organization_id, scope, target_id, reason, created_by, created_at, updated_at,
        version) values ($1, $2, $3, $4, '', 'test', now(), now(), 1)""",
        switch_id, place.organization_id, scope, target,
    )  # fmt: skip
    await engine.database.sql(
        kill_switches.STOP.format(wait=""),
        switch_id,
        place.organization_id,
        (await engine.database.sql("select now()"))[0][0],
        "",
    )
    return switch_id


async def test_a_run_at_work_ends_within_a_second_also_while_the_broker_is_away(servers: Servers) -> None:
    async with make_engine_stage(servers) as engine:
        place, calls = await engine.place(), 0

        async def hang(_: dict[str, Any]) -> Any:
            nonlocal calls
            calls += 1
            await asyncio.sleep(60)

        engine.agents.behaviours["echo"] = hang
        run_id = await engine.queue_run(place, await engine.sequence(place, 3))
        await engine.dispatch(place, run_id)
        engine.worker()
        await engine.until(run_id, lambda run: run["status"] == "running" and calls == 1)
        await asyncio.sleep(0.4)
        started = time.monotonic()
        await _switch(engine, place, "workspace", place.workspace_id)
        run = await engine.ended(run_id)  # nothing here was told over the broker
        assert time.monotonic() - started < 1
        assert (run["status"], run["stop_reason"], calls) == ("cancelled", "killed", 1)
        assert [step["error_code"] for step in await engine.steps(run_id)] == ["killed"]
        ended = (await engine.facts(run_id))[-1]
        assert (ended["type"], ended["data"]["stop_reason"]) == ("execution.run.cancelled.v1", "killed")


async def test_nothing_in_the_scope_is_admitted(servers: Servers) -> None:
    async with make_engine_stage(servers) as engine:
        place, other = await engine.place(), await engine.place()
        agent = await engine.agent(place, "echo")
        await _switch(engine, place, "agent", agent.id)
        killed = [await engine.queue_run(place, agent) for _ in range(3)]
        free = await engine.queue_run(other, await engine.agent(other, "echo"))
        engine.worker()
        engine.spawn(Admission(engine.addresses).run())
        await engine.ended(free)
        rows = [await engine.run(run_id) for run_id in killed]
        assert [(row["status"], row["dispatched_at"]) for row in rows] == [("queued", None)] * 3
