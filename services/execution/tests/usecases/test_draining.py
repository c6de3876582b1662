"""What is let in of a workspace that drains: all that has begun, to its end, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import EngineStage, Place, make_engine_stage
from services.execution.tests.usecases.test_children import CHILD, children_of
from services.execution.tests.usecases.test_flow_admission import admitted, end, flowing, queue, rounds, until_still

from chassis.ids import new_id
from chassis.objects import NoObjects
from execution.usecases import run_signals
from execution.usecases.admission import _BACKLOG, _DRAINING, BURST, Admission, sweeper
from execution.usecases.flow_admission import _FREE_PLACES, Net
from execution.usecases.runs import cancel_run
from execution.usecases.waking import wake_forever
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
WAITS_AND_HAS_A_CHILD = """pattern: sequential
steps:
  - {id: go, signal: {name: go}}
  - {id: child, orchestration: child}
  - {id: after, agent: echo}
"""
MANY = 10_000


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


async def become(engine: EngineStage, place: Place, status: str) -> None:
    await engine.database.sql("update workspace set status = $2 where id = $1", place.workspace_id, status)


async def copies(engine: EngineStage, run_id: UUID, count: int) -> None:
    """More runs like this one."""
    await engine.database.sql(
        """insert into run select (jsonb_populate_record(run, jsonb_build_object('id', more, 'root_run_id', more))).*
        from run cross join unnest($2::uuid[]) as more where run.id = $1""",
        run_id,
        [new_id() for _ in range(count)],
    )
    await engine.database.sql("analyze run")


async def blocks(engine: EngineStage, statement: str, types: str, *values: Any) -> int:
    """How many blocks a statement of the sweeper's reads, planned as admission has it planned."""
    connection = await sweeper(engine.addresses, "test")
    try:
        await connection.execute(f"prepare asked({types}) as {statement}")
        asked = ", ".join(f"'{value}'" for value in values)
        rows = await connection.fetch(f"explain (analyze, buffers) execute asked({asked})")
    finally:
        connection.terminate()
    plan = "\n".join(row[0] for row in rows)
    top = re.search(r"Buffers: shared(.*)", plan)
    assert top is not None, plan
    return sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", top[1]))


async def test_what_has_begun_goes_on_to_its_end_and_what_has_not_waits(engine: EngineStage) -> None:
    place = await engine.place()
    echo = await engine.agent(place, "echo")
    child = await engine.orchestration(place, CHILD, echo=echo)
    what = await engine.orchestration(place, WAITS_AND_HAS_A_CHILD, echo=echo, child=child)
    begun = await engine.queue_run(place, what, "go")
    for work in (Admission(engine.addresses).run(), wake_forever(engine.addresses)):
        engine.spawn(work)
    engine.worker()
    engine.children()
    await engine.until(begun, lambda run: run["status"] == "waiting")
    await become(engine, place, "draining")
    queued = await engine.queue_run(place, what, "go")
    async with engine.unit(place) as uow:
        await run_signals.signal_run(uow, begun, name="go", payload=1, objects=NoObjects())
    assert (await engine.ended(begun))["status"] == "completed"
    assert [run["status"] for run in await children_of(engine, begun)] == ["completed"]
    run = await engine.run(queued)
    assert (run["status"], run["dispatched_at"], run["token"]) == ("queued", None, 0)
    await become(engine, place, "active")
    await engine.until(queued, lambda run: run["status"] == "waiting")


async def test_only_runs_that_a_worker_has_had_and_children_are_let_in(engine: EngineStage) -> None:
    place = await engine.place()
    what = await engine.agent(place, "one")
    await become(engine, place, "draining")
    fresh = [await engine.queue_run(place, what, priority=9) for _ in range(5)]
    taken_over = await engine.queue_run(place, what, token=2)
    child = await engine.queue_run(place, what, parent_run_id=taken_over)
    async with rounds(engine) as admit:
        await until_still(admit)
        assert await admitted(engine) == {taken_over, child}
        async with engine.unit(place) as uow:
            assert (await cancel_run(uow, fresh[0], reason="")).status == "cancelled"
        await become(engine, place, "active")
        await until_still(admit)
        assert await admitted(engine) == {taken_over, child, *fresh[1:]}


async def test_its_places_are_as_many_as_ever(engine: EngineStage) -> None:
    place = await engine.place(max_concurrent_executions=2)
    what = await engine.agent(place, "one")
    await become(engine, place, "draining")
    await engine.queue_run(place, what, token=1, status="running")
    begun = [await engine.queue_run(place, what, token=1) for _ in range(3)]
    async with rounds(engine) as admit:
        await until_still(admit)
        assert await admitted(engine) == {begun[0]}


async def test_a_child_gets_its_place_before_what_was_queued_ahead_of_it_and_stays(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}}")
    first, *others = [await queue(engine, place, what) for _ in range(3)]
    async with rounds(engine) as admit:
        await until_still(admit)
        child = await queue(engine, place, what, parent_run_id=new_id())
        await until_still(admit)
        assert [(await engine.run(run_id))["hold"] for run_id in (*others, child)] == ["concurrency"] * 3
        await become(engine, place, "draining")
        await end(engine, first)
        await until_still(admit)
        assert await admitted(engine) == {first, child}
        await end(engine, child)
        await until_still(admit)
        assert await admitted(engine) == {first, child}
        await become(engine, place, "active")
        connection = await sweeper(engine.addresses, "test")
        await Net().look_at_places(connection)  # as every few seconds
        connection.terminate()
        await until_still(admit)
        assert await admitted(engine) == {first, child, others[0]}


async def test_a_paced_child_starts_though_others_were_queued_ahead_of_it(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{rate: {limit: 1, seconds: 3600}}")
    first, other = [await queue(engine, place, what) for _ in range(2)]
    async with rounds(engine) as admit:
        await until_still(admit)
        child = await queue(engine, place, what, parent_run_id=new_id())
        await until_still(admit)
        await become(engine, place, "draining")
        await engine.database.sql("update flow_pace set arrival_micros = 0, wakes_at = now()")
        await until_still(admit)
        assert await admitted(engine) == {first, child}
        assert (await engine.run(other))["hold"] == "rate"


async def test_a_round_costs_the_same_however_much_waits_there(engine: EngineStage) -> None:
    place, active = await engine.place(), await engine.place()
    what = await engine.agent(place, "one")
    fresh = await engine.queue_run(place, what)
    await engine.queue_run(active, await engine.agent(active, "one"))
    for _ in range(3):
        await engine.queue_run(place, what, token=1)
    await become(engine, place, "draining")

    async def cost() -> list[int]:
        return [await blocks(engine, statement, "integer", BURST) for statement in (_BACKLOG, _DRAINING)]

    few = await cost()
    await copies(engine, fresh, MANY)
    many = await cost()
    assert all(after < before + 30 for before, after in zip(few, many, strict=True))  # a level more of an index
    async with rounds(engine) as admit:
        assert await admit() == 4
        await engine.database.sql("update run set status = 'completed' where token = 1")
        assert all(after < before + 30 for before, after in zip(few, await cost(), strict=True))


async def test_a_group_costs_the_same_however_much_it_holds(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}}")
    fresh = await queue(engine, place, what, hold="concurrency")
    await queue(engine, place, what, hold="concurrency", parent_run_id=new_id())
    await become(engine, place, "draining")
    group = (await engine.run(fresh))["flow_group"]
    asked = _FREE_PLACES, "uuid[], uuid[]", f"{{{place.organization_id}}}", f"{{{group}}}"
    held = "select count(*) from run where hold is not null"
    few = await blocks(engine, *asked)
    assert await engine.database.value(held) == 1  # the child is free
    await copies(engine, fresh, MANY)
    await queue(engine, place, what, hold="concurrency", parent_run_id=new_id())
    assert await blocks(engine, *asked) < few + 100  # levels of indexes, in each look
    assert await engine.database.value(held) == MANY + 1
