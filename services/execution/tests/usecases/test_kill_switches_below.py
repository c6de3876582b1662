"""Kill switches and child runs: what is below a run ends with it, whatever it is a run of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import (
    Definition,
    EngineStage,
    Place,
    Slow,
    make_engine_stage,
    worker_process,
)

from chassis.caller import NOBODY, Caller
from execution.domain.kills import KillScope
from execution.usecases import kill_switches
from execution.usecases.admission import Admission
from execution.usecases.kill_switches import KillReport
from execution.usecases.waking import wake_forever
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
BOTTOM = "pattern: parallel\nbranches: [{id: own, agent: low}]\nlimits: {max_steps: 3}\n"
MIDDLE = (
    "pattern: parallel\nbranches: [{id: own, agent: mid}, {id: child, orchestration: bottom}]\nlimits: {max_steps: 9}\n"
)
TOP = "pattern: parallel\nbranches: [{id: own, agent: top}, {id: child, orchestration: middle}]\n"
LEVELS = ("top", "mid", "low")


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


class Tree:
    """Runs of three levels, each with a step of its own and the next level as a child."""

    def __init__(self, engine: EngineStage) -> None:
        self.engine, self.agents = engine, {name: Slow() for name in LEVELS}
        self.definitions: dict[str, Definition] = {}
        self.place: Place
        self.what: Definition

    async def plant(self) -> None:
        self.place = await self.engine.place()
        for name, slow in self.agents.items():
            self.engine.agents.behaviours[name] = slow
            self.definitions[name] = await self.engine.agent(self.place, name)
        known, make = self.definitions, self.engine.orchestration
        bottom = await make(self.place, BOTTOM, low=known["low"])
        middle = await make(self.place, MIDDLE, mid=known["mid"], bottom=bottom)
        self.what = await make(self.place, TOP, top=known["top"], middle=middle)

    async def at_work(self) -> list[UUID]:
        """The runs of one more tree from the top, each with a call under way."""
        before = {name: slow.calls for name, slow in self.agents.items()}
        top = await self.engine.queue_run(self.place, self.what)
        for name, slow in self.agents.items():
            await slow.until(calls=before[name] + 1)
        below = await self.engine.database.sql("select id from run where root_run_id = $1 order by depth", top)
        assert len(below) == 3
        return [row["id"] for row in below]

    async def rows(self) -> dict[UUID, Any]:
        return {row["id"]: row for row in await self.engine.database.sql("select * from run")}


@pytest.fixture
async def tree(engine: EngineStage) -> Tree:
    made = Tree(engine)
    await made.plant()
    return made


def work(engine: EngineStage, *, with_worker: bool = True) -> None:
    engine.spawn(wake_forever(engine.addresses))
    engine.spawn(Admission(engine.addresses).run())
    if with_worker:
        engine.worker()
    engine.children()


async def engage(engine: EngineStage, place: Place, scope: KillScope, target: UUID) -> UUID:
    """A switch as its door engages it: in one unit of work, then a look at what slipped by in another."""
    async with engine.unit(place) as uow:
        switch = await kill_switches.engage_kill_switch(uow, scope=scope, target_id=target, reason="runs away")
        switch_id = switch.id
    async with engine.unit(place) as uow:
        await kill_switches.look_again(uow, switch_id)
    return switch_id


async def report(engine: EngineStage, place: Place, switch_id: UUID) -> KillReport:
    async with engine.unit(place) as uow:
        return await kill_switches.read_report(uow, await kill_switches.get_kill_switch(uow, switch_id))


async def sweep(engine: EngineStage) -> int:
    async with engine.units().begin(Caller.system(NOBODY, "clock")) as uow:
        return await kill_switches.sweep_kill_switches(uow)


async def calls_of(engine: EngineStage, runs: list[UUID]) -> set[UUID]:
    steps = "select id from step where run_id = any($1) and kind = 'agent'"
    return {row["id"] for row in await engine.database.sql(steps, runs)}


@pytest.mark.parametrize(("scope", "spared"), [(KillScope.RUN, 1), (KillScope.AGENT, 1), (KillScope.AGENT, 0)])
async def test_what_is_at_work_below_ends_within_a_second(
    engine: EngineStage, tree: Tree, scope: KillScope, spared: int
) -> None:
    work(engine)
    runs = await tree.at_work()
    killed = runs[spared:]
    sibling = await tree.at_work() if scope is KillScope.RUN else []
    alone = await engine.queue_run(tree.place, tree.definitions["low"])
    await engine.until(alone, lambda run: run["status"] == "running")
    target = killed[0] if scope is KillScope.RUN else tree.definitions[LEVELS[spared]].id
    started = time.monotonic()
    switch_id = await engage(engine, tree.place, scope, target)
    for run_id in killed:
        await engine.ended(run_id)
    assert time.monotonic() - started < 2  # 0.6 s where nothing else is done
    rows = await tree.rows()
    for run_id in killed:
        row = rows[run_id]
        assert (row["status"], row["stop_reason"], row["kill_switch_id"]) == ("cancelled", "killed", switch_id)
        assert row["cancel_reason"] == "killed: runs away"
        kinds = await engine.kinds(run_id)
        assert (kinds.count("run.cancelled"), kinds.count("run.cancel_requested")) == (1, 0)
    for run_id in (*sibling, alone):
        assert (rows[run_id]["status"], rows[run_id]["kill_switch_id"]) == ("running", None)
    stopped = await report(engine, tree.place, switch_id)
    assert (stopped.stopped, stopped.stopping) == (len(killed), 0)
    async with asyncio.timeout(5):
        while len(left := await calls_of(engine, killed)) < len(killed):  # noqa: ASYNC110  (the rows are in a database)
            await asyncio.sleep(0.02)
    # Besides, the steps that waited for children were under way, too.
    assert left <= set(stopped.calls_left)
    assert rows[runs[0]]["kill_switch_id"] == (None if spared else switch_id)


async def test_who_takes_over_what_is_below_lets_go_of_it_as_killed(engine: EngineStage, tree: Tree) -> None:
    work(engine, with_worker=False)
    with worker_process(engine) as dead:
        runs = await tree.at_work()
        dead.kill()
    switch_id = await engage(engine, tree.place, KillScope.AGENT, tree.definitions["top"].id)
    engine.worker()
    for run_id in runs:
        run = await engine.ended(run_id)
        assert (run["status"], run["stop_reason"], run["kill_switch_id"]) == ("cancelled", "killed", switch_id)
    assert [slow.calls for slow in tree.agents.values()] == [1, 1, 1]


async def test_a_child_that_is_queued_is_never_let_in(engine: EngineStage, tree: Tree) -> None:
    parent = await engine.queue_run(tree.place, tree.what)
    await engine.database.sql("update run set status = 'running', token = 1 where id = $1", parent)
    below = {"parent_run_id": parent, "root_run_id": parent, "depth": 1}
    child = await engine.queue_run(tree.place, tree.definitions["low"], **below)
    await engage(engine, tree.place, KillScope.AGENT, tree.definitions["top"].id)
    free = await engine.queue_run(tree.place, await engine.agent(tree.place, "echo"))
    work(engine)
    await engine.ended(free)
    row = (await tree.rows())[child]
    assert (row["status"], row["stop_reason"], row["dispatched_at"]) == ("cancelled", "killed", None)
    assert tree.agents["low"].calls == 0


async def test_a_child_that_was_being_started_is_stopped_by_the_clock(engine: EngineStage, tree: Tree) -> None:
    top = await engine.queue_run(tree.place, tree.what)
    switch_id = await engage(engine, tree.place, KillScope.RUN, top)
    below = {"parent_run_id": top, "root_run_id": top, "depth": 1}
    late = await engine.queue_run(tree.place, tree.what, **below)
    later = await engine.queue_run(
        tree.place, tree.definitions["low"], **(below | {"parent_run_id": late, "root_run_id": late})
    )
    stranger = await engine.queue_run(tree.place, tree.what)
    assert await sweep(engine) == 2
    assert await sweep(engine) == 0
    rows = await tree.rows()
    assert [rows[run_id]["status"] for run_id in (late, later, stranger)] == ["cancelled", "cancelled", "queued"]
    assert (await report(engine, tree.place, switch_id)).stopped == 3


async def test_a_tree_that_is_larger_than_one_statement_is_stopped_by_the_next(
    engine: EngineStage, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = kill_switches.STOP.replace(f"limit {kill_switches.RUNS_AT_ONCE}\n", "limit 2\n")
    short = short.replace(f"limit {kill_switches.RUNS_AT_ONCE})", "limit 2)")
    monkeypatch.setattr(kill_switches, "STOP", short)
    top = await engine.queue_run(tree.place, tree.what)
    below = {"parent_run_id": top, "root_run_id": top, "depth": 1}
    runs = [await engine.queue_run(tree.place, tree.definitions["low"], **below) for _ in range(5)]
    await engine.database.sql("update run set status = 'running' where id = $1", top)
    await engage(engine, tree.place, KillScope.AGENT, tree.definitions["top"].id)
    await sweep(engine)
    rows = await tree.rows()
    assert {rows[run_id]["status"] for run_id in runs} == {"cancelled"}
    assert rows[top]["status"] == "cancelling"


async def test_what_only_the_cascade_reaches_is_killed_too(engine: EngineStage, tree: Tree) -> None:
    work(engine)
    top, *below = await tree.at_work()
    switch_id = await engage(engine, tree.place, KillScope.AGENT, (await engine.agent(tree.place, "other")).id)
    # As after a kill whose sweep was away for longer than it looks back.
    stop = "update run set status = 'cancelled', token = token + 1, kill_switch_id = $2, cancel_reason = 'killed: x'"
    await engine.database.sql(f"{stop}, completed_at = now() where id = $1", top, switch_id)
    await engine.database.sql("update step set status = 'skipped' where run_id = $1 and kind = 'subrun'", top)
    for run_id in below:
        run = await engine.ended(run_id)
        assert (run["status"], run["stop_reason"], run["cancel_reason"]) == ("cancelled", "killed", "killed: x")
    assert (await report(engine, tree.place, switch_id)).stopped == 3
