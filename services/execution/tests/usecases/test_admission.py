"""What may run when: exact counts, turns, priorities, what the broker lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.engine_stage import EngineStage, Place, make_engine_stage

from chassis.ids import new_id
from execution.clients.dispatch import Line
from execution.usecases.admission import BURST, READY, Admission, Candidate, sweeper, take_turns
from execution.usecases.wake_ups import QUEUED
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


def admit(engine: EngineStage, ahead: int = 256) -> asyncio.Task[None]:
    return engine.spawn(Admission(engine.addresses, ahead).run())


async def test_queued_runs_are_found_and_done(engine: EngineStage) -> None:
    place = await engine.place()
    what = await engine.sequence(place, 2)
    run_ids = [await engine.queue_run(place, what, number) for number in range(20)]
    engine.worker()
    admit(engine)
    for run_id in run_ids:
        assert (await engine.ended(run_id))["status"] == "completed"
    late = await engine.queue_run(place, what, "late")
    await engine.database.sql("notify run_queued")
    assert (await engine.ended(late))["status"] == "completed"


async def test_who_only_runs_or_waits_takes_no_share_of_a_round(engine: EngineStage) -> None:
    place = await engine.place(max_concurrent_executions=1_000)
    what = await engine.agent(place, "one")
    for _ in range(40):
        other = await engine.place()
        await engine.queue_run(other, what, status="waiting")
    for number in range(30):
        await engine.queue_run(place, what, number)
    connection, line = (
        await sweeper(engine.addresses, "test"),
        await Line.open(engine.servers.amqp_url, queue=engine.queue),
    )
    assert await Admission(engine.addresses, 30).admit(connection, line) == 30
    connection.terminate()
    await line.close()


async def test_a_workspace_never_runs_more_than_it_may(engine: EngineStage) -> None:
    narrow, wide = await engine.place(max_concurrent_executions=2), await engine.place()
    under_way: dict[UUID, int] = {}
    most: dict[str, int] = {}

    async def count(question: dict[str, Any]) -> Any:
        name = question["input"]
        under_way[name] = under_way.get(name, 0) + 1
        most[name] = max(most.get(name, 0), under_way[name])
        await asyncio.sleep(0.03)
        under_way[name] -= 1
        return "ok"

    engine.agents.behaviours["count"] = count
    run_ids = []
    for place, name in ((narrow, "narrow"), (wide, "wide")):
        what = await engine.agent(place, "count")
        run_ids += [await engine.queue_run(place, what, name) for _ in range(12)]
    engine.worker()
    engine.worker()
    admit(engine)
    admit(engine)  # stands by
    for run_id in run_ids:
        assert (await engine.ended(run_id))["status"] == "completed"
    assert most["narrow"] == 2
    assert most["wide"] > 2


async def test_an_unknown_workspace_runs_one_at_a_time(engine: EngineStage) -> None:
    known = await engine.place()
    what = await engine.agent(known, "one")
    unknown = Place(known.organization_id, new_id())
    for _ in range(3):
        await engine.queue_run(unknown, what)
    connection, line = await sweeper(engine.addresses, "test"), await open_line(engine)
    assert await Admission(engine.addresses).admit(connection, line) == 1
    connection.terminate()
    await line.close()


async def open_line(engine: EngineStage) -> Line:
    return await Line.open(engine.addresses.amqp_url, queue=engine.queue)


async def test_only_so_much_goes_ahead_and_a_flood_delays_nobody_else(engine: EngineStage) -> None:
    flood, small = await engine.place(), await engine.place()
    flooding, other = await engine.agent(flood, "flood"), await engine.agent(small, "small")
    for _ in range(30):
        await engine.queue_run(flood, flooding)
    mine = [await engine.queue_run(small, other) for _ in range(3)]
    connection, line = await sweeper(engine.addresses, "test"), await open_line(engine)
    admission = Admission(engine.addresses, ahead=8)
    assert await admission.admit(connection, line) == 8
    assert await admission.admit(connection, line) == 0  # until some of them are claimed
    for run_id in mine:
        assert (await engine.run(run_id))["dispatched_at"] is not None
    dispatched = await engine.database.value("select count(*) from run where dispatched_at is not null")
    assert dispatched == 8
    # A cancel reaches what is still in the database: it is simply not there any more.
    await engine.database.sql("update run set status = 'cancelled' where dispatched_at is null")
    await engine.database.sql("update run set status = 'completed' where dispatched_at is not null")
    assert await admission.admit(connection, line) == 0
    connection.terminate()
    await line.close()


async def test_the_higher_priority_goes_first_and_then_the_older(engine: EngineStage) -> None:
    place = await engine.place(max_concurrent_executions=2)
    what = await engine.agent(place, "one")
    old = await engine.queue_run(place, what)
    await engine.queue_run(place, what)
    urgent = await engine.queue_run(place, what, priority=5)
    connection, line = await sweeper(engine.addresses, "test"), await open_line(engine)
    assert await Admission(engine.addresses).admit(connection, line) == 2
    rows = await engine.database.sql("select id from run where dispatched_at is not null")
    assert {row["id"] for row in rows} == {old, urgent}
    connection.terminate()
    await line.close()


async def test_what_the_broker_lost_is_dispatched_again(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"))
    # As an admission leaves it that was killed between its commit and the broker's answer.
    await engine.database.sql("update run set dispatched_at = now() where id = $1", run_id)
    engine.worker()
    admit(engine)
    assert (await engine.ended(run_id))["status"] == "completed"
    other = await engine.queue_run(place, await engine.agent(place, "two"))
    connection, line = await sweeper(engine.addresses, "test"), await open_line(engine)
    admission = Admission(engine.addresses)
    kept = Candidate(place.organization_id, place.workspace_id, 30, other, 0)
    admission.dispatched[other] = kept
    await engine.database.sql("update run set dispatched_at = now() - interval '5 min' where id = $1", other)
    await admission.admit(connection, line)
    assert (await engine.ended(other))["status"] == "completed"
    connection.terminate()
    await line.close()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 20), st.integers(0, 60), st.data())
def test_beyond_the_room_only_those_go_who_have_less_than_the_busiest(
    waiting: list[int], count: int, most: int, data: st.DataObject
) -> None:
    organizations = [UUID(int=number) for number in range(len(waiting))]
    loads = {one: data.draw(st.integers(0, 40)) for one in organizations}
    backlog = [
        Candidate(one, UUID(int=100 + at), 30, new_id(), 0)
        for at, one in enumerate(organizations)
        for _ in range(waiting[at])
    ]
    ahead = {one: data.draw(st.integers(0, 20)) for one in organizations}
    chosen = take_turns(backlog, count, loads, most=most, ahead=ahead)
    assert len(chosen) == len({one.id for one in chosen}) <= most
    assert len(chosen) >= min(count, most, len(backlog))
    busiest, had, on_queue = max(loads.values()), Counter(loads), Counter(ahead)
    for at, one in enumerate(chosen):
        assert at < count or (had[one.organization_id] < busiest and on_queue[one.organization_id] < READY)
        had[one.organization_id] += 1
        on_queue[one.organization_id] += 1


def test_organizations_take_turns_and_within_them_workspaces() -> None:
    one, two, workspaces = new_id(), new_id(), [new_id() for _ in range(3)]
    backlog = [Candidate(one, workspaces[0], 30, new_id(), 0) for _ in range(5)]
    backlog += [Candidate(one, workspaces[1], 30, new_id(), 0) for _ in range(2)]
    backlog += [Candidate(two, workspaces[2], 30, new_id(), 0) for _ in range(2)]
    chosen = take_turns(backlog, 7, {})
    assert [(each.organization_id, each.workspace_id) for each in chosen] == [
        (one, workspaces[0]), (two, workspaces[2]), (one, workspaces[1]), (two, workspaces[2]),
        (one, workspaces[0]), (one, workspaces[1]), (one, workspaces[0]),
    ]  # fmt: skip
    assert take_turns(backlog, 100, {})[-1] == backlog[4]
    assert take_turns([], 5, {}) == []


def test_the_organization_with_the_fewest_under_way_is_next() -> None:
    busy, idle, workspaces = new_id(), new_id(), [new_id(), new_id()]
    backlog = [Candidate(busy, workspaces[0], 30, new_id(), 0) for _ in range(9)]
    backlog += [Candidate(idle, workspaces[1], 30, new_id(), 0) for _ in range(9)]
    chosen = take_turns(backlog, 8, {busy: 5})
    assert [each.organization_id for each in chosen] == [*[idle] * 5, busy, idle, busy]


async def test_behind_full_hands_only_a_few_wait_on_the_queue(engine: EngineStage) -> None:
    place = await engine.place(max_concurrent_executions=1_000)
    what = await engine.agent(place, "one")
    for number in range(3 * BURST):
        await engine.queue_run(place, what, number)
    connection, line = (
        await sweeper(engine.addresses, "test"),
        await Line.open(engine.servers.amqp_url, queue=engine.queue),
    )
    admission = Admission(engine.addresses)
    assert await admission.admit(connection, line) == BURST > READY  # nothing is on its way yet: hands may be free
    assert await line.waiting() == BURST
    # There is room for more ahead, but nobody takes what is there.
    assert await admission.admit(connection, line) == 0
    other = await engine.place(max_concurrent_executions=1_000)
    what = await engine.agent(other, "two")
    light = [await engine.queue_run(other, what, number) for number in range(2 * READY)]
    admission.hear(QUEUED)
    assert await admission.admit(connection, line) == READY  # whoever has less under way than others stands next
    assert set(light[:READY]) <= admission.dispatched.keys()
    assert await admission.admit(connection, line) == 0
    connection.terminate()
    await line.close()


async def test_the_next_turn_of_a_run_does_not_stand_in_its_own_way(engine: EngineStage) -> None:
    """It was claimed, waited and was answered between two rounds: what is remembered of its last turn is over."""
    place = await engine.place(max_concurrent_executions=1)
    run_id = await engine.queue_run(place, await engine.agent(place, "one"), 1, token=1)
    admission = Admission(engine.addresses)
    admission.dispatched[run_id] = Candidate(place.organization_id, place.workspace_id, 30, run_id, 0)
    connection = await sweeper(engine.addresses, "test")
    line = await Line.open(engine.servers.amqp_url, queue=engine.queue)
    assert await admission.admit(connection, line) == 1
    assert admission.dispatched[run_id].token == 1
    connection.terminate()
    await line.close()
