"""Kill switches beside runs that are being claimed, stored and tried again: nothing slips by, and no call is made late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from services.execution.tests.engine_stage import EngineStage, Place, make_engine_stage

from execution.domain.kills import KillScope
from execution.usecases import kill_switches
from execution.usecases.kill_switches import KillReport
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


async def engage(engine: EngineStage, place: Place) -> KillReport:
    """A switch of the workspace, as the door engages it."""
    async with engine.unit(place) as uow:
        switch = await kill_switches.engage_kill_switch(
            uow, scope=KillScope.WORKSPACE, target_id=place.workspace_id, reason="runs away"
        )
        return await kill_switches.read_report(uow, switch)


async def statuses(engine: EngineStage) -> dict[UUID, str]:
    return {row["id"]: row["status"] for row in await engine.database.sql("select id, status from run")}


async def test_no_further_call_is_made_once_the_end_of_a_step_was_answered_with_the_stop(engine: EngineStage) -> None:
    place, calls = await engine.place(), []

    async def stop_meanwhile(question: dict[str, Any]) -> Any:
        calls.append(question["step"])
        if len(calls) == 1:
            await engage(engine, place)  # the worker hears of it by the write of this step's end, before any pulse
        return {"step": question["step"]}

    engine.agents.behaviours["echo"] = stop_meanwhile
    run_id = await engine.queue_run(place, await engine.sequence(place, 3))
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["stop_reason"], calls) == ("cancelled", "killed", ["s1"])
    assert [step["node"] for step in await engine.steps(run_id)] == ["s1"]


async def test_a_write_that_was_announced_and_not_made_is_known_as_such(engine: EngineStage) -> None:
    place = await engine.place()

    async def stop_meanwhile(_: dict[str, Any]) -> Any:
        await engage(engine, place)
        return "done"

    engine.agents.behaviours["echo"] = stop_meanwhile
    payer = await engine.agent(place, "payer", "effects: write\n")
    text = "pattern: sequential\nsteps: [{id: one, agent: echo}, {id: pay, agent: payer}]\n"
    what = await engine.orchestration(place, text, echo=await engine.agent(place, "echo"), payer=payer)
    run_id = await engine.queue_run(place, what)
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], engine.agents.count("payer")) == ("cancelled", 0)
    steps = {step["node"]: step["status"] for step in await engine.steps(run_id)}
    # Where the worker's pulse has seen the switch before `one` was stored, the write is not even announced.
    assert steps in ({"one": "completed", "pay": "skipped"}, {"one": "completed"})


async def test_an_attempt_that_only_waits_for_its_turn_is_no_call_that_left(engine: EngineStage) -> None:
    place = await engine.place()

    async def fail(_: dict[str, Any]) -> Any:
        raise RuntimeError("not now")

    engine.agents.behaviours["flaky"] = fail
    slow = "retry: {max: 3, backoff: constant, base: 30s, jitter: none}\n"
    run_id = await engine.queue_run(place, await engine.agent(place, "flaky", slow))
    await engine.dispatch(place, run_id)
    engine.worker()
    await engine.until(run_id, lambda run: run["last_step"] >= 1)
    async with asyncio.timeout(10):
        while not await engine.steps(run_id):  # noqa: ASYNC110  (the row is in a database)
            await asyncio.sleep(0.02)
    await engage(engine, place)
    run = await engine.ended(run_id)
    assert run["status"] == "cancelled"
    assert [(step["attempt"], step["error_code"]) for step in await engine.steps(run_id)] == [(1, "unavailable")]
    async with engine.unit(place) as uow:
        switch = await kill_switches.get_kill_switch(uow, run["kill_switch_id"])
        assert (await kill_switches.read_report(uow, switch)).calls_left == []


async def test_a_run_that_is_being_claimed_is_waited_for_and_stopped_as_what_it_became(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "echo"))
    other = await engine.queue_run(place, await engine.agent(place, "other"))
    holder = await asyncpg.connect(engine.database.url("batch"))
    async with asyncio.TaskGroup() as tasks:
        async with holder.transaction():
            await holder.execute(f"select set_config('app.organization_ids', '{{{place.organization_id}}}', true)")
            await holder.execute("update run set status = 'running', token = 1 where id = $1", run_id)
            engaged = tasks.create_task(engage(engine, place))
            await engine.until_waiting_for_locks(1)
        report = await engaged
    await holder.close()
    assert await statuses(engine) == {run_id: "cancelling", other: "cancelled"}
    assert (report.stopped, report.stopping) == (1, 1)


async def test_who_holds_a_run_for_long_does_not_keep_the_others_running(engine: EngineStage) -> None:
    place = await engine.place()
    held = await engine.queue_run(place, await engine.agent(place, "echo"))
    other = await engine.queue_run(place, await engine.agent(place, "other"))
    holder = await asyncpg.connect(engine.database.url("sweep"))
    async with holder.transaction():
        await holder.execute("select 1 from run where id = $1 for update", held)
        report = await engage(engine, place)
        assert report.stopped == 1
        assert await statuses(engine) == {held: "queued", other: "cancelled"}
    await holder.close()
    async with engine.unit(place) as uow:
        switch = (await uow.fetch("select id from kill_switch"))[0]["id"]
        _, report = await kill_switches.look_again(uow, switch)
    assert report.stopped == 2


async def test_what_is_on_its_way_is_stopped_before_what_only_waits(
    engine: EngineStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await engine.place()
    what = await engine.agent(place, "echo")
    queued = [await engine.queue_run(place, what) for _ in range(3)]
    dispatched, running = queued[1], queued[2]
    await engine.database.sql("update run set dispatched_at = now() where id = $1", dispatched)
    await engine.database.sql("update run set status = 'running' where id = $1", running)
    short = kill_switches.STOP.replace(f"limit {kill_switches.RUNS_AT_ONCE}", "limit 2")
    assert short != kill_switches.STOP
    monkeypatch.setattr(kill_switches, "STOP", short)
    await engage(engine, place)
    assert await statuses(engine) == {queued[0]: "queued", dispatched: "cancelled", running: "cancelling"}


async def test_a_waiting_run_is_ended_with_its_waits(engine: EngineStage) -> None:
    place = await engine.place()
    text = "pattern: sequential\nsteps: [{id: paid, signal: {name: payment}}]\n"
    run_id = await engine.queue_run(place, await engine.orchestration(place, text))
    await engine.dispatch(place, run_id)
    engine.worker()
    await engine.until(run_id, lambda run: run["status"] == "waiting")
    await engage(engine, place)
    run = await engine.run(run_id)
    assert (run["status"], run["waiting_for"], run["wake_at"]) == ("cancelled", None, None)
    assert [step["status"] for step in await engine.steps(run_id)] == ["skipped"]
