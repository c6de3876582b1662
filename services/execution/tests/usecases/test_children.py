"""Child runs: started for a step, bounded by what their parent has left, and told of once, whoever dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from services.execution.tests.engine_stage import Definition, EngineStage, Place, make_engine_stage, worker_process

from chassis.objects import NoObjects
from execution.domain.flows import Concurrency, Flow, groups_of
from execution.usecases import run_signals, runs
from execution.usecases.admission import Admission
from execution.usecases.waking import wake_forever
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
CHILD = """pattern: sequential
steps: [{id: inner, agent: echo}]
"""
PARENT = """pattern: sequential
steps:
  - {id: before, agent: echo}
  - {id: child, orchestration: child, in: {from: "${steps.before.output}"}}
  - {id: after, agent: echo, in: {got: "${steps.child.output}"}}
"""
EACH = """pattern: map_reduce
over: ${input.items}
map: {orchestration: child, in: {item: "${item}"}}
concurrency: 3
"""
FIRST = """pattern: parallel
branches: [{id: quick, agent: echo}, {id: long, orchestration: child}]
join: {mode: any}
"""
AGAIN = """pattern: router
classifier: {expr: 'input.n > 0 ? "more" : "done"'}
routes:
  more: {orchestration: child, in: {n: "${input.n - 1}"}}
  done: {agent: echo}
flow: {concurrency: {limit: 1}}
"""
WAITING = """pattern: sequential
steps: [{id: go, signal: {name: go}}, {id: inner, agent: echo}]
"""


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        made.spawn(wake_forever(made.addresses))
        made.spawn(Admission(made.addresses).run())
        yield made


async def family(
    engine: EngineStage, parent: str, child: str = CHILD, value: Any = None, agents: tuple[str, ...] = ("echo",)
) -> tuple[Place, UUID]:
    """A queued run of an orchestration that runs another."""
    place = await engine.place()
    known = {name: await engine.agent(place, name) for name in agents}
    below = await engine.orchestration(place, child, **known)
    return place, await engine.queue_run(place, await engine.orchestration(place, parent, child=below, **known), value)


def work(engine: EngineStage) -> None:
    engine.worker()
    engine.children()


async def children_of(engine: EngineStage, run_id: UUID) -> list[dict[str, Any]]:
    rows = await engine.database.sql("select * from run where parent_run_id = $1 order by id", run_id)
    return [dict(row) for row in rows]


async def a_child(engine: EngineStage, run_id: UUID, status: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not (found := [row for row in await children_of(engine, run_id) if row["status"] == status]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found[0]


async def test_a_step_is_a_run_of_its_own_and_gives_what_that_gave(engine: EngineStage) -> None:
    _, run_id = await family(engine, PARENT, value="go")
    work(engine)
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"]) == ("completed", 3)
    (child,) = await children_of(engine, run_id)
    steps = await engine.steps(run_id)
    assert [(step["node"], step["kind"], step["status"]) for step in steps] == [
        ("before", "agent", "completed"), ("child", "subrun", "completed"), ("after", "agent", "completed"),
    ]  # fmt: skip
    assert (steps[1]["child_run_id"], steps[1]["output"]) == (child["id"], child["output"])
    assert orjson.loads(steps[1]["child_used"]) == {"cost_usd_micros": 0, "tokens": 7, "steps": 1}
    assert (child["trigger_type"], child["depth"], child["root_run_id"], child["parent_step_id"]) == (
        "child", 1, run_id, steps[1]["id"],
    )  # fmt: skip
    assert orjson.loads(child["input"]) == {"from": {"said": "go", "step": "before"}}
    assert run["output"]["said"]["got"]["said"] == {"from": {"said": "go", "step": "before"}}
    assert await engine.kinds(run_id) == [
        "run.started", "step.completed", "run.wait_started", "step.completed", "step.completed", "run.completed",
    ]  # fmt: skip
    kinds = await engine.kinds(child["id"])
    assert kinds == ["run.queued", "decision.recorded", "run.started", "step.completed", "run.completed"]


async def test_a_parent_holds_nothing_while_its_child_is_under_way(engine: EngineStage) -> None:
    """Also where a workspace runs one thing at a time: a parent that held its place would wait for ever."""
    _, run_id = await family(engine, PARENT, value="go")
    await engine.database.sql("update workspace set max_concurrent_executions = 1")
    work(engine)
    assert (await engine.ended(run_id))["status"] == "completed"


async def test_children_run_side_by_side(engine: EngineStage) -> None:
    _, run_id = await family(engine, EACH, value={"items": list(range(7))})
    work(engine)
    run = await engine.ended(run_id)
    assert run["status"] == "completed"
    assert [each["said"]["item"] for each in run["output"]] == list(range(7))
    assert len(await children_of(engine, run_id)) == 7


@pytest.mark.parametrize(
    ("child", "code"),
    [
        ("pattern: sequential\nsteps: [{id: inner, agent: broken}]\n", "child_failed"),
        (f"{WAITING}limits: {{timeout: 2s}}\n", None),
        ("pattern: sequential\nsteps: [{id: inner, agent: slow}]\nlimits: {timeout: 300ms}\n", "child_timed_out"),
    ],
)
async def test_a_child_that_does_not_complete_fails_its_step(engine: EngineStage, child: str, code: str | None) -> None:
    engine.agents.behaviours |= {"broken": refuse, "slow": forever}
    place, run_id = await family(engine, PARENT, child, "go", ("echo", "broken", "slow"))
    work(engine)
    if code is None:  # waiting for somebody is no part of the time that it may take
        await asyncio.sleep(2.2)
        await send(engine, place, (await a_child(engine, run_id, "waiting"))["id"])
        assert (await engine.ended(run_id))["status"] == "completed"
        return
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", code)
    assert run["output"] == {"before": {"said": "go", "step": "before"}}


async def refuse(_: dict[str, Any]) -> int:
    return 400


async def forever(_: dict[str, Any]) -> None:
    await asyncio.sleep(60)


async def send(engine: EngineStage, place: Place, run_id: UUID) -> None:
    async with engine.unit(place) as uow:
        await run_signals.signal_run(uow, run_id, name="go", payload=1, objects=NoObjects())


async def test_cancelling_a_parent_stops_its_children_and_theirs(engine: EngineStage) -> None:
    place = await engine.place()
    echo = await engine.agent(place, "echo")
    lowest = await engine.orchestration(place, WAITING, echo=echo)
    middle = await engine.orchestration(place, PARENT, echo=echo, child=lowest)
    run_id = await engine.queue_run(place, await engine.orchestration(place, PARENT, echo=echo, child=middle), "go")
    work(engine)
    below = await a_child(engine, run_id, "waiting")
    lowest_run = await a_child(engine, below["id"], "waiting")
    async with engine.unit(place) as uow:
        await runs.cancel_run(uow, run_id, reason="enough")
    for each in (run_id, below["id"], lowest_run["id"]):
        assert (await engine.ended(each, 12))["status"] == "cancelled"
    assert (await engine.steps(run_id))[1]["status"] == "skipped"


async def test_a_child_that_no_longer_counts_is_stopped(engine: EngineStage) -> None:
    engine.agents.behaviours["slow"] = forever
    child = "pattern: sequential\nsteps: [{id: inner, agent: slow}]\n"
    first = FIRST.replace("agent: echo", "agent: pause")
    gate = asyncio.Event()

    async def pause(question: dict[str, Any]) -> Any:
        await gate.wait()
        return question["input"]

    engine.agents.behaviours["pause"] = pause
    _, run_id = await family(engine, first, child, "go", ("pause", "slow"))
    work(engine)
    below = await a_child(engine, run_id, "running")
    gate.set()
    assert (await engine.ended(run_id))["status"] == "completed"
    assert (await engine.ended(below["id"], 12))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("limits", "child_limits", "status", "code"),
    [
        ("{max_steps: 3}", "{max_steps: 9}", "completed", None),
        ("{max_steps: 2}", "{}", "failed", "max_steps"),
        ("{max_tokens: 7}", "{}", "completed", None),
        ("{max_tokens: 6}", "{}", "failed", "max_tokens"),
        ("{max_depth: 1}", "{}", "completed", None),
    ],
)
async def test_a_tree_keeps_within_the_limits_of_its_root(
    engine: EngineStage, limits: str, child_limits: str, status: str, code: str | None
) -> None:
    parent = PARENT.replace("  - {id: before, agent: echo}\n", "").replace("${steps.before.output}", "x")
    _, run_id = await family(engine, f"{parent}limits: {limits}\n", f"{CHILD}limits: {child_limits}\n", "go")
    work(engine)
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == (status, code)


async def test_a_tree_is_no_deeper_than_its_root_allows(engine: EngineStage) -> None:
    place = await engine.place()
    echo = await engine.agent(place, "echo")
    lowest = await engine.orchestration(place, CHILD, echo=echo)
    middle = await engine.orchestration(place, PARENT, echo=echo, child=lowest)
    top = await engine.orchestration(place, f"{PARENT}limits: {{max_depth: 1}}\n", echo=echo, child=middle)
    run_id = await engine.queue_run(place, top, "go")
    work(engine)
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", "child_failed")
    (below,) = await children_of(engine, run_id)
    assert (below["error_code"], below["stop_reason"]) == ("max_depth", "max_depth")


async def test_children_that_do_not_fit_together_come_one_after_the_other(engine: EngineStage) -> None:
    limited = f"{EACH}limits: {{max_tokens: 30}}\n"
    _, run_id = await family(engine, limited, f"{CHILD}limits: {{max_tokens: 16}}\n", {"items": [1, 2]})
    work(engine)
    run = await engine.ended(run_id)
    assert run["status"] == "completed"
    first, second = await children_of(engine, run_id)
    assert [orjson.loads(each["limits"])["max_tokens"] for each in (first, second)] == [16, 16]
    assert second["queued_at"] >= first["completed_at"]


async def test_a_child_that_may_not_start_fails_its_step(engine: EngineStage) -> None:
    _, run_id = await family(engine, PARENT, value="go")
    await engine.database.sql("update orchestration set status = 'deprecated' where pattern = 'sequential' and id <> $1",
                              (await engine.run(run_id))["orchestration_id"])  # fmt: skip
    work(engine)
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", "not_active")
    assert await children_of(engine, run_id) == []


@pytest.mark.seconds(180)
async def test_no_death_of_a_worker_loses_or_doubles_a_child(engine: EngineStage) -> None:
    place, run_id = await family(engine, EACH, value={"items": list(range(6))})
    await engine.database.sql("update workspace set max_concurrent_executions = 2")
    engine.children()
    for _ in range(2):
        with worker_process(engine):
            await asyncio.sleep(1.5)
        await engine.database.sql("update run set lease_until = now() - interval '1 s' where status = 'running'")
        keeper = engine.tasks.pop()
        keeper.cancel()
        engine.children()
        for row in await engine.database.sql("select id, token from run where status in ('running', 'cancelling')"):
            await engine.dispatch(place, row["id"], token=row["token"])
    engine.worker()
    run = await engine.ended(run_id, 120)
    assert run["status"] == "completed"
    below = await children_of(engine, run_id)
    assert [len(below), {each["status"] for each in below}] == [6, {"completed"}]
    assert all(each["parent_told"] for each in below)


async def test_a_fork_runs_its_children_as_forks_of_the_originals_children(engine: EngineStage) -> None:
    place, run_id = await family(engine, PARENT, value="go")
    work(engine)
    await engine.ended(run_id)
    (child,) = await children_of(engine, run_id)
    first = await engine.run(run_id)
    what = Definition(
        "orchestration", first["orchestration_id"], first["version_id"], orjson.loads(first["pins"]), {}
    )  # fmt: skip
    fork_id = await engine.queue_run(place, what, "go", forked_from=run_id, plays_writes=True)
    assert (await engine.ended(fork_id))["status"] == "completed"
    (again,) = await children_of(engine, fork_id)
    assert (again["forked_from"], again["plays_writes"]) == (child["id"], True)


async def test_the_time_of_a_busy_child_is_its_parents(engine: EngineStage) -> None:
    async def slow(question: dict[str, Any]) -> Any:
        await asyncio.sleep(0.6)
        return {"asked": question["input"]}

    engine.agents.behaviours["slow"] = slow
    child = "pattern: sequential\nsteps: [{id: go, signal: {name: go}}, {id: inner, agent: slow}]\n"
    place, run_id = await family(engine, PARENT, child, "go", ("echo", "slow"))
    work(engine)
    below = await a_child(engine, run_id, "waiting")
    await asyncio.sleep(0.5)
    await send(engine, place, below["id"])
    run = await engine.ended(run_id)
    busy = run["completed_at"] - run["started_at"] - run["waited"]
    assert busy >= timedelta(seconds=0.6)
    assert run["waited"] >= timedelta(seconds=0.4)


async def test_a_run_that_calls_itself_goes_in_the_place_that_it_has(engine: EngineStage) -> None:
    place = await engine.place()
    echo = await engine.agent(place, "echo")
    other = await engine.orchestration(place, CHILD, echo=echo)
    again = await engine.orchestration(place, AGAIN, echo=echo, child=other)
    again.pins["child"] = again.as_pin()
    known = {"id": str(again.id), "version": "current", "kind": "orchestration"}
    await engine.database.sql(
        "update orchestration_version set agent_ids = agent_ids || $2 where id = $1",
        again.version_id,
        orjson.dumps({"child": known}).decode(),
    )
    group = groups_of(Flow(concurrency=Concurrency(limit=1)), again.id, {}).flow
    run_id = await engine.queue_run(place, again, {"n": 2}, flow_group=group)
    work(engine)
    run = await engine.ended(run_id)
    assert (run["status"], run["output"]) == ("completed", {"said": {"n": 0}, "step": "done"})
    (below,) = await children_of(engine, run_id)
    assert below["flow_group"] is None


async def test_what_is_under_way_behind_a_failure_is_ended_and_counted(engine: EngineStage) -> None:
    """A map that fails by its first item: its other children are stopped, and the call of another branch is on record."""
    both = """pattern: graph
nodes:
  - {id: lost, agent: broken}
  - {id: call, agent: slow}
  - {id: child, orchestration: child}
  - {id: sum, agent: echo}
edges: [{from: lost, to: sum}, {from: call, to: sum}, {from: child, to: sum}]
"""
    gate = asyncio.Event()

    async def broken(_: dict[str, Any]) -> int:
        await gate.wait()
        return 400

    engine.agents.behaviours |= {"broken": broken, "slow": forever}
    _, run_id = await family(engine, both, WAITING, "go", ("echo", "broken", "slow"))
    work(engine)
    below = await a_child(engine, run_id, "waiting")
    gate.set()
    assert (await engine.ended(run_id))["status"] == "failed"
    assert (await engine.ended(below["id"], 12))["status"] == "cancelled"
    steps = {step["node"]: step["status"] for step in await engine.steps(run_id)}
    assert steps == {"lost": "failed", "call": "skipped", "child": "skipped"}
    assert (await engine.kinds(run_id))[-1] == "run.failed"


async def test_cancelling_a_parent_that_is_queued_stops_its_children(engine: EngineStage) -> None:
    both = """pattern: graph
nodes:
  - {id: go, signal: {name: go}}
  - {id: child, orchestration: child}
  - {id: sum, agent: echo}
edges: [{from: go, to: sum}, {from: child, to: sum}]
"""
    place, run_id = await family(engine, both, WAITING, "go")
    work(engine)
    below = await a_child(engine, run_id, "waiting")
    await engine.until(run_id, lambda run: run["status"] == "waiting")
    await engine.database.sql("update workspace set max_concurrent_executions = 0")
    await send(engine, place, run_id)
    assert (await engine.run(run_id))["status"] == "queued"
    async with engine.unit(place) as uow:
        await runs.cancel_run(uow, run_id, reason="enough")
    assert (await engine.ended(below["id"], 12))["status"] == "cancelled"


async def test_a_child_beside_one_that_cannot_be_had(engine: EngineStage) -> None:
    both = "pattern: parallel\nbranches: [{id: a, orchestration: child}, {id: b, orchestration: gone}]\n"
    place = await engine.place()
    echo = await engine.agent(place, "echo")
    below = await engine.orchestration(place, CHILD, echo=echo)
    what = await engine.orchestration(place, both, child=below, gone=below)
    del what.pins["gone"]
    run_id = await engine.queue_run(place, what, "go")
    work(engine)
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", "definition_gone")
    assert [(step["node"], step["status"]) for step in await engine.steps(run_id)] == [
        ("a", "skipped"), ("b", "failed"),
    ]  # fmt: skip
    await asyncio.sleep(0.5)
    assert await children_of(engine, run_id) == []


async def test_a_step_of_a_child_counts_once_however_often_it_is_tried(engine: EngineStage) -> None:
    tries = []

    async def flaky(question: dict[str, Any]) -> Any:
        tries.append(question)
        return 503 if len(tries) < 3 else {"ok": True}

    engine.agents.behaviours["flaky"] = flaky
    child = "pattern: sequential\nsteps: [{id: inner, agent: flaky, retry: {max: 3, base: 10ms}}]\n"
    parent = PARENT.replace("  - {id: before, agent: echo}\n", "").replace("${steps.before.output}", "x")
    _, run_id = await family(engine, f"{parent}limits: {{max_steps: 3}}\n", child, "go", ("echo", "flaky"))
    work(engine)
    assert (await engine.ended(run_id))["status"] == "completed"
    assert orjson.loads((await engine.steps(run_id))[0]["child_used"])["steps"] == 1


async def test_how_deep_a_child_may_go_it_says_of_itself(engine: EngineStage) -> None:
    place = await engine.place()
    below = echo = await engine.agent(place, "echo")
    child = await engine.orchestration(place, CHILD, echo=below)
    for _ in range(4):  # each of them may have no more than one run below it
        child = await engine.orchestration(place, f"{PARENT}limits: {{max_depth: 1}}\n", echo=echo, child=child)
    top = await engine.orchestration(place, f"{PARENT}limits: {{max_depth: 9}}\n", echo=echo, child=child)
    run_id = await engine.queue_run(place, top, "go")
    work(engine)
    run = await engine.ended(run_id)
    assert run["error_code"] == "child_failed"
    deep = await engine.database.sql("select depth, error_code from run where error_code = 'max_depth'")
    assert [tuple(row) for row in deep] == [(2, "max_depth")]


async def test_a_child_that_cannot_be_looked_after_keeps_no_other_waiting(engine: EngineStage) -> None:
    """Its input is an object that is not there: the child of another run starts all the same."""
    _, lost = await family(engine, PARENT, value="go")
    engine.worker()
    await engine.until(lost, lambda run: run["status"] == "waiting")
    await engine.database.sql("update step set input = null, input_ref = 'nowhere' where kind = 'subrun'")
    _, run_id = await family(engine, PARENT, value="go")
    engine.children()
    assert (await engine.ended(run_id))["status"] == "completed"
    assert await children_of(engine, lost) == []
