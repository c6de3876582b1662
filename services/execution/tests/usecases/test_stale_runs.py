"""Runs that nobody ends are ended when their time is over, with all that an end tells, and then their month goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from services.execution.tests.engine_stage import Definition, EngineStage, Slow, make_engine_stage
from services.execution.tests.engine_stage import Place as Home
from services.execution.tests.factories import make_agent, make_month
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_payloads import made_at
from services.execution.tests.usecases.test_run_starts import start

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.objects import NoObjects
from execution.jobs.months import keep_months
from execution.usecases.admission import Admission, sweeper
from execution.usecases.leases import reap
from execution.usecases.stale_runs import STALE, end_stale_runs, find_stale_runs
from execution.usecases.wake_ups import WakeUps
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
LONG_AGO = datetime(2020, 1, 15, tzinfo=UTC)
ASKED = """pattern: graph
nodes:
  - {id: pay, agent: pay}
  - {id: slow, agent: slow}
  - {id: sure, approval: {approvers: {roles: [operator]}}}
  - {id: sub, orchestration: sub}
  - {id: sum, agent: slow}
edges: [{from: pay, to: sum}, {from: slow, to: sum}, {from: sure, to: sum}, {from: sub, to: sum}]
"""
SUB = "pattern: sequential\nsteps: [{id: paid, signal: {name: payment}}]\n"


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        await make_month(made.database, LONG_AGO)
        made.spawn(Admission(made.addresses).run())
        yield made


async def queue_long_ago(engine: EngineStage, place: Home, what: Definition) -> UUID:
    run_id = made_at(LONG_AGO)
    await engine.queue_run(place, what, id=run_id)
    return run_id


async def sweep(engine: EngineStage) -> int:
    """What the clock does; how many runs it has ended or is about to."""
    ended = 0
    for organization_id, run_ids in (await find_stale_runs(engine.addresses)).items():
        async with engine.units().begin(Caller.system(organization_id, "execution.clock")) as uow:
            ended += len(await end_stale_runs(uow, run_ids))
    return ended


async def drop(engine: EngineStage) -> int:
    async with engine.database.connect("sweep") as connection:
        return int(await connection.fetchval("select run_drop_months()"))


async def pay(_: dict[str, Any]) -> Any:
    return 503


async def test_what_nobody_has_decided_about_ends_with_all_that_it_waits_for(engine: EngineStage) -> None:
    place, slow = await engine.place(), Slow()
    engine.agents.behaviours |= {"pay": pay, "slow": slow}
    what = await engine.orchestration(
        place,
        ASKED,
        pay=await engine.agent(place, "pay", "effects: write\n"),
        slow=await engine.agent(place, "slow"),
        sub=await engine.orchestration(place, SUB),
    )
    run_id = await queue_long_ago(engine, place, what)
    engine.worker(detach_seconds=0.3)
    engine.children()
    await engine.until(run_id, lambda run: run["waiting_for"] == "decision")
    child = (await engine.database.sql("select id from run where parent_run_id = $1", run_id))[0]["id"]
    await engine.until(child, lambda run: run["waiting_for"] == "signal")
    assert await drop(engine) == 0

    assert await sweep(engine) == 1
    run = await engine.run(run_id)
    assert (run["status"], run["stop_reason"], run["error_code"]) == ("timed_out", "timeout", "timeout")
    assert "30 days" in run["error_message"]
    assert (run["waiting_for"], run["wake_at"], run["step_count"]) == (None, None, 1)
    steps = {step["node"]: step for step in await engine.steps(run_id)}
    assert {node: step["status"] for node, step in steps.items()} == {
        "pay": "needs_decision",  # nobody knows better now
        "slow": "failed",
        "sure": "skipped",
        "sub": "skipped",
    }
    assert (steps["slow"]["error_code"], steps["slow"]["lease_until"]) == ("timeout", None)
    assert (await engine.kinds(run_id))[-2:] == ["step.failed", "run.timed_out"]
    told = (await engine.facts(run_id))[-1]
    assert (told["actor"], told["data"]["step_count"]) == ({"type": "system", "id": "execution.clock"}, 1)
    assert (await engine.ended(child))["status"] == "cancelled"
    slow.may_answer.set()
    assert await sweep(engine) == 0
    assert await drop(engine) == 1


async def test_a_run_at_work_is_let_go_of_by_its_worker(engine: EngineStage) -> None:
    place, slow = await engine.place(), Slow()
    engine.agents.behaviours["slow"] = slow
    run_id = await queue_long_ago(engine, place, await engine.agent(place, "slow"))
    engine.worker()
    await slow.until(calls=1)
    assert await sweep(engine) == 1
    assert await sweep(engine) == 0  # also while it is still cancelling
    run = await engine.ended(run_id)
    assert (run["status"], run["stop_reason"]) == ("cancelled", "cancelled")
    assert "30 days" in run["cancel_reason"]
    await slow.until(hung_up=1)
    told = await engine.kinds(run_id)
    assert told[-1] == "run.cancelled"
    assert [told.count(kind) for kind in ("run.cancel_requested", "step.failed", "run.cancelled")] == [1, 1, 1]
    assert await drop(engine) == 1


async def test_a_run_whose_worker_is_gone_is_taken_over_and_ends(engine: EngineStage) -> None:
    place, slow = await engine.place(), Slow()
    engine.agents.behaviours["slow"] = slow
    run_id = await queue_long_ago(engine, place, await engine.agent(place, "slow"))
    worker = engine.worker()
    await slow.until(calls=1)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert await sweep(engine) == 1
    await engine.database.sql("update run set lease_until = now() - interval '1 s' where id = $1", run_id)
    assert (await reap(engine.addresses)).runs == [run_id]
    engine.worker()
    assert (await engine.ended(run_id))["status"] == "cancelled"
    assert slow.calls == 1
    assert await drop(engine) == 1


async def test_two_who_sweep_end_each_run_once_and_wait_for_nobody(engine: EngineStage) -> None:
    place = await engine.place(max_concurrent_executions=0)
    agent = await engine.agent(place, "one")
    run_ids = [await queue_long_ago(engine, place, agent) for _ in range(5)]
    async with engine.database.connect("sweep") as holder, holder.transaction():
        await holder.fetch("select id from run where id = $1 for update", run_ids[0])
        ended = await asyncio.wait_for(asyncio.gather(sweep(engine), sweep(engine)), 5)
    assert sum(ended) == 4
    assert await sweep(engine) == 1
    for run_id in run_ids:
        assert await engine.kinds(run_id) == ["run.timed_out"]


async def _age(stage: Stage, run_id: UUID, moment: datetime, kept: int = 30) -> UUID:
    """Make it a run of that time."""
    old = made_at(moment)
    await stage.sql("update run set id = $2, retention_class = $3 where id = $1", run_id, old, kept)
    return old


async def _status(stage: Stage, run_id: UUID) -> str:
    return str((await stage.sql("select status from run where id = $1", run_id))[0]["status"])


async def test_the_clock_ends_what_is_queued_where_nothing_is_let_in_and_then_drops_the_month(stage: Stage) -> None:
    await make_month(stage.database, LONG_AGO)
    wake_ups = WakeUps(stage.database.url())
    job = keep_months(NoObjects(), wake_ups)
    old, young = [], []
    for status in ("suspended", "draining"):
        place = await stage.place()
        await make_agent(stage, place)
        old.append((place, await _age(stage, (await start(stage, place.caller())).id, LONG_AGO)))
        young.append((await start(stage, place.caller())).id)
        await stage.sql("update workspace set status = $2 where id = $1", place.workspace_id, status)
    await job.run(stage.running)
    for place, run_id in old:
        assert await _status(stage, run_id) == "timed_out"
        ended = (await stage.bodies(place.organization_id))[-1]
        assert ended["type"] == "execution.run.timed_out.v1"
        assert (ended["data"]["run_id"], ended["data"]["stop_reason"]) == (str(run_id), "timeout")
    await job.run(stage.running)
    assert await stage.sql("select relname from pg_class where relname ~ '202001$'") == []
    assert [await _status(stage, run_id) for run_id in young] == ["queued", "queued"]
    for place, _ in old:
        assert (await stage.types(place.organization_id)).count("run.timed_out.v1") == 1
    await wake_ups.close()


async def test_a_backlog_larger_than_one_look_is_ended_in_one_go(stage: Stage, place: Place) -> None:
    await make_month(stage.database, LONG_AGO)
    await make_agent(stage, place)
    first = await _age(stage, (await start(stage, place.caller())).id, LONG_AGO)
    await stage.sql(
        """insert into run select (jsonb_populate_record(run, jsonb_build_object('id', more))).* from run
        cross join unnest($2::uuid[]) as more where run.id = $1""",
        first, [made_at(LONG_AGO) for _ in range(450)],
    )  # fmt: skip
    wake_ups = WakeUps(stage.database.url())
    job = keep_months(NoObjects(), wake_ups)
    async with stage.database.connect("sweep") as holder, holder.transaction():
        await holder.fetch("select id from run where id = $1 for update", first)
        await job.run(stage.running)  # comes to an end, although one cannot be had
    of_place = "select status, count(*) from run where organization_id = $1 group by status"
    assert {row[0]: row[1] for row in await stage.sql(of_place, place.organization_id)} == {
        "queued": 1, "timed_out": 450
    }  # fmt: skip
    for _ in range(2):
        await job.run(stage.running)
    assert await stage.sql("select relname from pg_class where relname ~ '202001$'") == []
    await wake_ups.close()


async def test_an_organization_whose_runs_cannot_be_ended_keeps_no_others(stage: Stage) -> None:
    await make_month(stage.database, LONG_AGO)
    old = []
    for _ in range(3):
        place = await stage.place()
        await make_agent(stage, place)
        old.append((place.organization_id, await _age(stage, (await start(stage, place.caller())).id, LONG_AGO)))
    old.sort()
    await stage.sql("create function broken() returns trigger language plpgsql as 'begin raise exception $$no$$; end'")
    await stage.sql(f"""create trigger broken before update on run for each row
        when (new.organization_id = '{old[0][0]}') execute function broken()""")
    wake_ups = WakeUps(stage.database.url())
    job = keep_months(NoObjects(), wake_ups)
    await job.run(stage.running)
    assert [await _status(stage, run_id) for _, run_id in old] == ["queued", "timed_out", "timed_out"]
    await stage.sql("drop function broken() cascade")
    for _ in range(2):
        await job.run(stage.running)
    assert await stage.sql("select relname from pg_class where relname ~ '202001$'") == []
    await wake_ups.close()


async def test_only_what_keeps_a_month_that_is_due_is_ended(stage: Stage, place: Place) -> None:
    """The last moment of the month that goes next, and the first of the one that stays; a longer class stays, too."""
    await make_agent(stage, place)
    stays = (utc_now() - timedelta(days=30)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    goes = stays - timedelta(milliseconds=1)
    for kept in (30, 90):
        await make_month(stage.database, date(goes.year, goes.month, 1), kept)
    due, kept_run, longer = [
        await _age(stage, (await start(stage, place.caller())).id, moment, kept)
        for moment, kept in ((goes, 30), (stays, 30), (goes, 90))
    ]
    wake_ups = WakeUps(stage.database.url())
    for _ in range(2):
        await keep_months(NoObjects(), wake_ups).run(stage.running)
    assert await stage.sql("select id from run where id = $1", due) == []
    assert [await _status(stage, run_id) for run_id in (kept_run, longer)] == ["queued", "queued"]
    await wake_ups.close()


async def test_finding_them_reads_nothing_of_all_that_has_ended(engine: EngineStage) -> None:
    place = await engine.place()
    open_run = await queue_long_ago(engine, place, await engine.agent(place, "one"))
    await engine.database.sql(
        """insert into run select (jsonb_populate_record(run, jsonb_build_object('id', more, 'status', 'completed'))).*
        from run cross join unnest($2::uuid[]) as more where run.id = $1""",
        open_run, [made_at(LONG_AGO) for _ in range(5_000)],
    )  # fmt: skip
    await engine.database.sql("analyze run")
    connection = await sweeper(engine.addresses, "test")
    plan = await connection.fetchval(f"explain (format json, analyze, buffers) {STALE}", 30, [])
    connection.terminate()
    top = orjson.loads(plan)[0]["Plan"]
    assert top["Actual Rows"] == 1
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 30, plan
    assert "run_30_202001" in plan
    assert "Seq Scan" not in plan
