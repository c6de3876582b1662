"""Runs that are let in by group: exact with several who admit, through crashes, and with limits that change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from services.execution.tests.engine_stage import (
    Definition,
    EngineStage,
    Place,
    admission_process,
    make_engine_stage,
    worker_process,
)

from execution.clients.dispatch import Line
from execution.domain.definitions import agent_of
from execution.domain.flows import Flow, groups_of
from execution.usecases.admission import Admission, sweeper
from execution.usecases.flow_admission import Net, enter_groups
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio

PLACES = """select count(*) from run where flow_since is not null
  and status in ('queued', 'running', 'waiting', 'cancelling')"""


ENDED = "select count(*) from run where status = 'completed'"


class SilentLine:
    """A broker that hangs up on whoever publishes."""

    async def waiting(self) -> int:
        return 0

    async def publish(self, _: Any) -> list[bool]:
        raise ConnectionResetError


class FullLine(SilentLine):
    """A broker that takes nothing."""

    async def publish(self, dispatches: Any) -> list[bool]:
        return [False for _ in dispatches]


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


async def flowing(engine: EngineStage, place: Place, flow: str, name: str = "one") -> Definition:
    return await engine.agent(place, name, f"flow: {flow}\n")


async def flow_of(engine: EngineStage, what: Definition) -> Flow:
    config = await engine.database.value("select config from agent_version where id = $1", what.version_id)
    return agent_of(orjson.loads(config)).flow


async def queue(engine: EngineStage, place: Place, what: Definition, value: Any = None, **columns: Any) -> UUID:
    """A run with the groups that the door gives it."""
    groups = groups_of(await flow_of(engine, what), what.id, value)
    return await engine.queue_run(place, what, value, flow_group=groups.flow, pace_group=groups.pace, **columns)


async def change_flow(engine: EngineStage, what: Definition, flow: str) -> None:
    """What a new current version says."""
    await engine.database.sql(
        "update agent_version set config = jsonb_set(config, '{flow}', $2::jsonb) where id = $1", what.version_id, flow
    )


@asynccontextmanager
async def rounds(engine: EngineStage) -> AsyncIterator[Any]:
    """One who admits, round by round."""
    connection, line = (
        await sweeper(engine.addresses, "test"),
        await Line.open(engine.addresses.amqp_url, queue=engine.queue),
    )
    admission = Admission(engine.addresses)

    async def admit() -> int:
        return await admission.admit(connection, line)

    try:
        yield admit
    finally:
        connection.terminate()
        await line.close()


async def admitted(engine: EngineStage) -> set[UUID]:
    return {row["id"] for row in await engine.database.sql("select id from run where dispatched_at is not null")}


async def end(engine: EngineStage, *run_ids: UUID, status: str = "completed") -> None:
    await engine.database.sql("update run set status = $2 where id = any($1)", list(run_ids), status)


async def until_still(admit: Any) -> None:
    while await admit():
        pass


async def test_each_key_has_its_own_places_and_the_oldest_goes_first(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 2, key: input.who}}")
    runs = {who: [await queue(engine, place, what, {"who": who}) for _ in range(4)] for who in "ab"}
    free = await engine.queue_run(place, await engine.agent(place, "free"))
    async with rounds(engine) as admit:
        await until_still(admit)
        assert await admitted(engine) == {*runs["a"][:2], *runs["b"][:2], free}
        await end(engine, runs["a"][1])
        assert await admit() == 1
        assert await admitted(engine) == {*runs["a"][:3], *runs["b"][:2], free}
        assert await admit() == 0


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "timed_out"])
async def test_whoever_ends_in_whatever_way_lets_the_next_one_in(engine: EngineStage, status: str) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}}")
    first, second = [await queue(engine, place, what) for _ in range(2)]
    async with rounds(engine) as admit:
        await until_still(admit)
        await end(engine, first, status=status)
        await until_still(admit)
        assert await admitted(engine) == {first, second}


async def test_who_is_cancelled_before_it_takes_its_place_leaves_it_to_the_next(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}}")
    first, second, third = [await queue(engine, place, what) for _ in range(3)]
    async with rounds(engine) as admit:
        await until_still(admit)
        await engine.database.sql("update workspace set max_concurrent_executions = 0")
        await end(engine, first)
        await until_still(admit)  # the second is no longer held back by its group, but there is no room for it
        assert (await engine.run(second))["hold"] is None
        await end(engine, second, status="cancelled")
        await engine.database.sql("update workspace set max_concurrent_executions = 5")
        await until_still(admit)
        assert await admitted(engine) == {first, third}


async def test_a_full_group_holds_up_nobody_else(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}, priority: 9}")
    for _ in range(600):  # more than a round reads
        await queue(engine, place, what, priority=9)
    free = await engine.queue_run(place, await engine.agent(place, "free"))
    async with rounds(engine) as admit:
        await until_still(admit)
        assert free in await admitted(engine)
        assert await engine.database.value(PLACES) == 1


async def test_several_who_admit_at_the_same_time_never_pass_the_limit(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 3}}")
    runs = [await queue(engine, place, what) for _ in range(40)]
    async with AsyncExitStack() as stack:
        admits = [await stack.enter_async_context(rounds(engine)) for _ in range(4)]
        seen = set[UUID]()
        for _ in range(200):
            await asyncio.gather(*(admit() for admit in admits))
            places = await engine.database.value(PLACES)
            assert places <= 3
            now = (await admitted(engine)) - seen
            ending = sorted(now)[:2]
            await asyncio.gather(end(engine, *ending), *(admit() for admit in admits))
            seen |= set(ending)
            if len(seen) == len(runs):
                break
        assert seen == set(runs)


async def test_different_runs_of_a_group_asked_for_at_the_same_time_never_pass_the_limit(engine: EngineStage) -> None:
    """Each asks for runs of its own, so that no lock of a row keeps them apart."""
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1, key: input.who}}")
    connections = [await sweeper(engine.addresses, "test") for _ in range(4)]
    for turn in range(15):
        asked = [[await queue(engine, place, what, {"who": f"{turn}.{who}"}) for who in range(5)] for _ in connections]
        pairs = zip(connections, asked, strict=True)
        entered = await asyncio.gather(*(enter_groups(one, ([30] * 5, run_ids)) for one, run_ids in pairs))
        assert [len(ready) for ready, _ in entered if ready] == [5]
        rows = await engine.database.sql("select flow_group from run where flow_since is not null")
        assert len(rows) == len({row["flow_group"] for row in rows}) == 5 * (turn + 1)
    for connection in connections:
        connection.terminate()


async def test_a_run_that_waits_keeps_its_place_and_goes_on_without_asking(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}, rate: {limit: 1, seconds: 3600, burst: 2}}")
    first, second = [await queue(engine, place, what) for _ in range(2)]
    async with rounds(engine) as admit:
        await until_still(admit)
        await engine.database.sql("update run set status = 'waiting', dispatched_at = null where id = $1", first)
        await until_still(admit)
        assert await admitted(engine) == set()
        await engine.database.sql("update run set status = 'queued' where id = $1", first)
        await until_still(admit)
        assert await admitted(engine) == {first}
        await end(engine, first)
        await until_still(admit)  # the start of the first was counted once
        assert await admitted(engine) == {first, second}


async def test_a_lowered_limit_holds_for_what_waits_and_a_raised_one_too(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 3}}")
    runs = [await queue(engine, place, what) for _ in range(8)]
    async with rounds(engine) as admit:
        await until_still(admit)
        assert await admitted(engine) == set(runs[:3])
        await change_flow(engine, what, '{"concurrency": {"limit": 1}}')
        for run_id in runs[:2]:
            await end(engine, run_id)
            await until_still(admit)
            assert await admitted(engine) == set(runs[:3])
        await end(engine, runs[2])
        await until_still(admit)
        assert await admitted(engine) == set(runs[:4])
        await change_flow(engine, what, '{"concurrency": {"limit": 4}}')
        connection = await sweeper(engine.addresses, "test")
        await Net().look_at_places(connection)
        connection.terminate()
        await until_still(admit)
        assert await admitted(engine) == set(runs[:7])


async def test_starts_are_spaced_and_every_run_has_its_turn(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{rate: {limit: 10, seconds: 1, burst: 2, key: input.who}}")
    runs = [await queue(engine, place, what, {"who": who}) for who in "aaaaaab"]
    async with rounds(engine) as admit:
        await until_still(admit)
        assert await admitted(engine) == {*runs[:2], runs[6]}
        async with asyncio.timeout(10):
            while await admitted(engine) != set(runs):
                await admit()
                await asyncio.sleep(0.01)
    rows = await engine.database.sql("select flow_since from run where id = any($1) order by 1", runs[:6])
    started = [row["flow_since"].timestamp() for row in rows]
    assert all(later - earlier >= 0.099 * 3 for earlier, later in zip(started, started[4:], strict=False))


async def test_what_one_group_stops_lets_others_take_the_place_in_the_other(engine: EngineStage) -> None:
    place = await engine.place()
    flow = "{concurrency: {limit: 1}, rate: {limit: 1, seconds: 3600, key: input.who}}"
    what = await flowing(engine, place, flow)
    first, same, other = [await queue(engine, place, what, {"who": who}) for who in "aab"]
    async with rounds(engine) as admit:
        await until_still(admit)
        await end(engine, first)
        await until_still(admit)
        assert await admitted(engine) == {first, other}
        assert (await engine.run(same))["hold"] == "rate"


async def test_paces_that_bind_nobody_are_forgotten(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{rate: {limit: 1, seconds: 1}}")
    await queue(engine, place, what)
    async with rounds(engine) as admit:
        await until_still(admit)
    connection = await sweeper(engine.addresses, "test")
    await Net().look_at_paces(connection)
    assert await engine.database.value("select count(*) from flow_pace") == 1
    await engine.database.sql("update flow_pace set arrival_micros = arrival_micros - 70 * 1000000")
    await Net().look_at_paces(connection)
    assert await engine.database.value("select count(*) from flow_pace") == 0
    connection.terminate()


@pytest.mark.parametrize(
    "statement",
    [
        "update workspace set status = 'suspended' where id = $2 and organization_id = $1",
        "update workspace set status = 'deleted' where id = $2 and organization_id = $1",
        "update workspace set status = 'draining' where id = $2 and organization_id = $1",
        """insert into organization_rules (organization_id, status, status_version)
        select $1, 'suspended', 1 where $2::uuid is not null""",
        """insert into organization_rules (organization_id, status, status_version)
        select $1, 'deleted', 1 where $2::uuid is not null""",
        """insert into kill_switch (id, organization_id, scope, target_id, reason, created_by, created_at, updated_at,
        version) values (gen_random_uuid(), $1, 'workspace', $2, '', 'test', now(), now(), 1)""",
    ],
)
async def test_what_is_stopped_is_not_let_in_and_holds_up_nobody(engine: EngineStage, statement: str) -> None:
    stopped, other = await engine.place(), await engine.place()
    for place in (stopped, other):
        await queue(engine, place, await flowing(engine, place, "{concurrency: {limit: 1}}"))
        await engine.queue_run(place, await engine.agent(place, "free"))
    await engine.database.sql(statement, stopped.organization_id, stopped.workspace_id)
    async with rounds(engine) as admit:
        await until_still(admit)
    rows = await engine.database.sql("select organization_id from run where dispatched_at is not null")
    assert [row["organization_id"] for row in rows] == [other.organization_id] * 2


async def test_a_run_that_the_broker_did_not_take_gives_its_place_back_until_it_has_begun(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 2}}")
    fresh = await queue(engine, place, what)
    begun = await queue(engine, place, what, token=1)
    await engine.database.sql("update run set flow_since = now() where id = $1", begun)
    connection, admission = await sweeper(engine.addresses, "test"), Admission(engine.addresses)
    assert await admission.admit(connection, cast("Line", FullLine())) == 2
    rows = await engine.database.sql("select id, dispatched_at, flow_since from run")
    assert {row["dispatched_at"] for row in rows} == {None}
    assert {row["id"]: row["flow_since"] is not None for row in rows} == {fresh: False, begun: True}
    async with rounds(engine) as admit:
        await until_still(admit)
    assert await engine.database.value(PLACES) == 2
    connection.terminate()


async def test_a_message_of_a_run_that_was_not_let_in_starts_nothing(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}}")
    run_id = await queue(engine, place, what)
    await engine.dispatch(place, run_id)
    await engine.database.sql("update run set dispatched_at = null where id = $1", run_id)
    engine.worker()
    await asyncio.sleep(0.5)
    assert (await engine.run(run_id))["status"] == "queued"


async def test_what_was_let_in_and_never_sent_keeps_its_place_and_is_sent_again(engine: EngineStage) -> None:
    place = await engine.place()
    what = await flowing(engine, place, "{concurrency: {limit: 1}, rate: {limit: 100, seconds: 1, burst: 5}}")
    first, second = [await queue(engine, place, what) for _ in range(2)]
    connection = await sweeper(engine.addresses, "test")
    with pytest.raises(ConnectionResetError):
        await Admission(engine.addresses).admit(connection, cast("Line", SilentLine()))
    connection.terminate()
    assert await admitted(engine) == {first}
    async with rounds(engine) as admit:  # one who knows nothing of it
        await until_still(admit)
    assert await admitted(engine) == {first}
    engine.worker()
    engine.spawn(Admission(engine.addresses).run())
    ends = [await engine.ended(run_id) for run_id in (first, second)]
    assert [run["status"] for run in ends] == ["completed"] * 2
    assert ends[0]["completed_at"] <= ends[1]["flow_since"]


@pytest.mark.seconds(120)
async def test_killed_workers_and_admissions_neither_pass_the_limit_nor_leave_anybody(engine: EngineStage) -> None:
    place = await engine.place()
    under_way = most = 0

    async def count(_: dict[str, Any]) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.03)
        finally:
            under_way -= 1
        return "ok"

    engine.agents.behaviours["one"] = count
    what = await flowing(engine, place, "{concurrency: {limit: 2}}")
    runs = [await queue(engine, place, what) for _ in range(30)]
    for _ in range(4):
        before = await engine.database.value(ENDED)
        with worker_process(engine), admission_process(engine):  # both are killed without a word
            async with asyncio.timeout(20):
                while await engine.database.value(ENDED) < before + 3:
                    await asyncio.sleep(0.01)
                    assert await engine.database.value(PLACES) <= 2
    assert await engine.database.value(ENDED) < len(runs)
    engine.worker()
    engine.spawn(Admission(engine.addresses).run())
    for run_id in runs:
        assert (await engine.ended(run_id, 60))["status"] == "completed"
    assert most == 2
    assert await engine.database.value("select count(*) from flow_change") <= 2
