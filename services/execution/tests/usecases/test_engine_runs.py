"""Runs through the real engine: PostgreSQL, the queue, agents over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from services.execution.tests.engine_stage import EngineStage, echo, make_engine_stage

from execution.clients.agents import AgentCall, AgentResult
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


async def test_a_run_of_one_agent_ends_with_its_answer(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"), {"q": 1})
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["output"]) == ("completed", {"said": {"q": 1}, "step": "agent"})
    assert (run["step_count"], run["input_tokens"], run["output_tokens"]) == (1, 3, 4)
    assert run["completed_at"] >= run["started_at"]
    assert await engine.kinds(run_id) == ["run.started", "step.completed", "run.completed"]
    step = (await engine.steps(run_id))[0]
    assert (step["status"], step["attempt"], step["agent_semver"]) == ("completed", 1, "1.0.0")
    fact = (await engine.facts(run_id))[1]
    assert (fact["data"]["owner_id"], fact["data"]["step_id"]) == ("owner-1", str(step["id"]))


async def test_a_run_of_five_steps_hands_each_output_on_and_leaves_eight_facts_with_the_doors(
    engine: EngineStage,
) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.sequence(place, 5), "go")
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert run["status"] == "completed"
    innermost = run["output"]
    for number in (5, 4, 3, 2, 1):
        assert innermost["step"] == f"s{number}"
        innermost = innermost["said"]
    assert innermost == "go"
    kinds = await engine.kinds(run_id)
    assert kinds == ["run.started", *["step.completed"] * 5, "run.completed"]
    assert len(kinds) + 1 <= 9  # and the door's run.queued
    assert [key for _, _, key in engine.agents.calls] == [f"{run_id}:s{number}:0" for number in range(1, 6)]
    ended = (await engine.facts(run_id))[-1]["data"]
    assert (ended["step_count"], ended["input_tokens"], ended["output_tokens"]) == (5, 15, 20)


async def test_branches_run_at_the_same_time_and_are_merged(engine: EngineStage) -> None:
    place, together, seen = await engine.place(), asyncio.Event(), []

    async def meet(question: dict[str, Any]) -> Any:
        seen.append(question["step"])
        if len(seen) == 3:
            together.set()
        await together.wait()  # only ever ends when all three are being done at once
        return question["step"]

    engine.agents.behaviours["meet"] = meet
    meeting, merger = await engine.agent(place, "meet"), await engine.agent(place, "merge")
    text = """pattern: parallel
branches: [{id: a, agent: meet}, {id: b, agent: meet}, {id: c, agent: meet}]
merge: {agent: merge}
"""
    what = await engine.orchestration(place, text, meet=meeting, merge=merger)
    run_id = await engine.queue_run(place, what, 1)
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert run["status"] == "completed"
    assert run["output"]["said"] == {"a": "a", "b": "b", "c": "c"}
    assert (run["step_count"], len(await engine.steps(run_id))) == (4, 4)


async def test_an_any_join_stops_the_slower_branch(engine: EngineStage) -> None:
    place, begun, stopped = await engine.place(), asyncio.Event(), asyncio.Event()

    async def slow(question: dict[str, Any]) -> Any:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async def fast(question: dict[str, Any]) -> Any:
        await begun.wait()  # else the slower one may be stopped before its call has arrived
        return await echo(question)

    engine.agents.behaviours |= {"slow": slow, "fast": fast}
    text = """pattern: parallel
branches: [{id: a, agent: fast}, {id: b, agent: slow}]
join: {mode: any}
"""
    what = await engine.orchestration(
        place, text, fast=await engine.agent(place, "fast"), slow=await engine.agent(place, "slow")
    )
    run_id = await engine.queue_run(place, what, 1)
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], list(run["output"])) == ("completed", ["a"])
    assert {step["node"]: step["status"] for step in await engine.steps(run_id)} == {"a": "completed", "b": "skipped"}
    await asyncio.wait_for(stopped.wait(), 10)


RETRY = "retry: {max: 3, base: 10ms, jitter: none}\n"


async def test_a_failed_attempt_is_tried_again_and_each_is_a_row(engine: EngineStage) -> None:
    place, answers = await engine.place(), [503, 429, {"at": "last"}]

    async def flaky(question: dict[str, Any]) -> Any:
        return answers[question["attempt"] - 1]

    engine.agents.behaviours["flaky"] = flaky
    run_id = await engine.queue_run(place, await engine.agent(place, "flaky", RETRY))
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["output"], run["step_count"]) == ("completed", {"at": "last"}, 3)
    steps = await engine.steps(run_id)
    assert [(step["attempt"], step["status"], step["error_code"], step["will_retry"]) for step in steps] == [
        (1, "failed", "unavailable", True),
        (2, "failed", "rate_limited", True),
        (3, "completed", None, False),
    ]
    assert len({key for _, _, key in engine.agents.calls}) == 1
    assert await engine.kinds(run_id) == [
        "run.started",
        "step.failed",
        "step.failed",
        "step.completed",
        "run.completed",
    ]


async def test_a_step_that_keeps_failing_fails_the_run_and_keeps_what_there_was(engine: EngineStage) -> None:
    place = await engine.place()

    async def broken(_: dict[str, Any]) -> Any:
        return 500

    engine.agents.behaviours["broken"] = broken
    good, bad = await engine.agent(place, "good"), await engine.agent(place, "broken", RETRY)
    what = await engine.orchestration(
        place, "pattern: sequential\nsteps: [{id: a, agent: good}, {id: b, agent: bad}]\n", good=good, bad=bad
    )
    run_id = await engine.queue_run(place, what, 7)
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"], run["step_count"]) == ("failed", "unavailable", 4)
    assert run["output"] == {"a": {"said": 7, "step": "a"}}
    assert run["error_message"]
    last = (await engine.facts(run_id))[-1]
    assert (last["type"], last["data"]["error_code"]) == ("execution.run.failed.v1", "unavailable")


async def test_a_run_past_its_time_is_stopped_in_the_middle_of_a_call(engine: EngineStage) -> None:
    place = await engine.place()

    async def hang(_: dict[str, Any]) -> Any:
        await asyncio.sleep(60)

    engine.agents.behaviours["hang"] = hang
    run_id = await engine.queue_run(place, await engine.agent(place, "hang"), limits='{"timeout_seconds": 0.5}')
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["stop_reason"]) == ("timed_out", "timeout")
    assert [step["error_code"] for step in await engine.steps(run_id)] == ["timeout"]
    assert (await engine.kinds(run_id))[-1] == "run.timed_out"


async def test_a_running_run_says_that_it_started_before_its_first_step_ends(engine: EngineStage) -> None:
    place, go = await engine.place(), asyncio.Event()

    async def wait(_: dict[str, Any]) -> Any:
        await go.wait()
        return "gone"

    engine.agents.behaviours["wait"] = wait
    run_id = await engine.queue_run(place, await engine.agent(place, "wait"))
    await engine.dispatch(place, run_id)
    engine.worker()
    await engine.until(run_id, lambda run: run["last_step"] == 1)
    assert await engine.kinds(run_id) == ["run.started"]
    go.set()
    await engine.ended(run_id)
    assert await engine.kinds(run_id) == ["run.started", "step.completed", "run.completed"]


async def test_a_cancelled_run_ends_soon_and_its_call_is_dropped(engine: EngineStage) -> None:
    place, dropped = await engine.place(), asyncio.Event()

    async def hang(_: dict[str, Any]) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            dropped.set()

    engine.agents.behaviours["hang"] = hang
    run_id = await engine.queue_run(place, await engine.agent(place, "hang"))
    await engine.dispatch(place, run_id)
    engine.worker()
    await engine.until(run_id, lambda run: run["last_step"] == 1)
    await engine.database.sql("update run set status = 'cancelling', version = version + 1 where id = $1", run_id)
    run = await engine.ended(run_id, seconds=5)
    assert (run["status"], run["stop_reason"], run["error_code"]) == ("cancelled", "cancelled", None)
    assert (await engine.kinds(run_id))[-1] == "run.cancelled"
    await asyncio.wait_for(dropped.wait(), 10)
    assert [step["error_code"] for step in await engine.steps(run_id)] == ["cancelled"]


async def test_a_run_cancelled_before_it_is_claimed_calls_nobody(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.sequence(place, 1), "x", status="cancelling")
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id, seconds=5)
    assert (run["status"], run["step_count"], engine.agents.calls) == ("cancelled", 0, [])


async def test_a_cancel_that_comes_with_the_end_wins(engine: EngineStage) -> None:
    place, run_ids = await engine.place(), []

    async def meanwhile(question: dict[str, Any]) -> Any:
        await engine.database.sql("update run set status = 'cancelling' where id = $1", run_ids[0])
        return "done"

    engine.agents.behaviours["meanwhile"] = meanwhile
    run_ids.append(await engine.queue_run(place, await engine.agent(place, "meanwhile")))
    await engine.dispatch(place, run_ids[0])
    engine.worker()
    run = await engine.ended(run_ids[0])
    assert (run["status"], run["stop_reason"], run["step_count"]) == ("cancelled", "cancelled", 1)
    assert await engine.kinds(run_ids[0]) == ["run.started", "step.completed", "run.cancelled"]


async def test_a_cap_stops_the_run_before_the_call_that_would_pass_it(engine: EngineStage) -> None:
    place = await engine.place()
    what = await engine.sequence(place, 5)
    run_id = await engine.queue_run(place, what, "x", limits='{"max_tokens": 13}')
    steps_id = await engine.queue_run(place, what, "x", limits='{"max_steps": 2}')
    await engine.dispatch(place, run_id, steps_id)
    engine.worker()
    run = await engine.ended(run_id)
    # Each echo uses seven: after the second, fourteen are spent, and no third call is made.
    assert (run["status"], run["stop_reason"], run["step_count"]) == ("failed", "max_tokens", 2)
    assert sorted(run["output"]) == ["s1", "s2"]
    assert (await engine.facts(run_id))[-1]["data"]["stop_reason"] == "max_tokens"
    other = await engine.ended(steps_id)
    assert (other["status"], other["stop_reason"], other["step_count"]) == ("failed", "max_steps", 2)


async def test_a_version_that_is_not_there_fails_the_run(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"), version_id=place.workspace_id)
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", "definition_gone")


async def test_an_output_no_store_holds_fails_the_step(engine: EngineStage) -> None:
    place = await engine.place()

    async def large(_: dict[str, Any]) -> Any:
        return "x" * 70_000

    engine.agents.behaviours["large"] = large
    run_id = await engine.queue_run(place, await engine.agent(place, "large"))
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"], run["output"]) == ("failed", "too_large", {})


async def test_many_runs_of_many_organizations_share_commits_and_stay_apart(engine: EngineStage) -> None:
    places = [await engine.place() for _ in range(4)]
    run_ids = {}
    for place in places:
        what = await engine.sequence(place, 3)
        run_ids[place] = [await engine.queue_run(place, what, str(place.organization_id)) for _ in range(10)]
    for place in places:
        await engine.dispatch(place, *run_ids[place])
    engine.worker()
    for place in places:
        for run_id in run_ids[place]:
            run = await engine.ended(run_id)
            assert run["output"]["said"]["said"]["said"] == str(place.organization_id)
            assert {step["organization_id"] for step in await engine.steps(run_id)} == {place.organization_id}
    assert engine.agents.count("echo") == 4 * 10 * 3


async def test_an_input_that_its_agent_does_not_take_is_not_sent(engine: EngineStage) -> None:
    place = await engine.place()
    picky = await engine.agent(
        place, "picky", "input_schema: {type: object, properties: {topic: {type: string}}, required: [topic]}\n"
    )
    text = "pattern: sequential\nsteps: [{id: draft, agent: picky, in: {topic: 5}}]\n"
    run_id = await engine.queue_run(place, await engine.orchestration(place, text, picky=picky))
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", "invalid_input")
    assert run["error_message"] == "The input does not fit input_schema at topic."
    assert engine.agents.calls == []


@pytest.mark.parametrize(
    ("step", "agent", "seconds"),
    [
        ("", "", 30.0),
        ("timeout: 40s", "", 40.0),
        ("", "limits: {timeout: 50s}\n", 50.0),
        ("timeout: 70s", "limits: {timeout: 50s}\n", 50.0),
    ],
)
async def test_how_long_a_call_may_take_is_said_by_the_step_within_the_agents_limit(
    engine: EngineStage, step: str, agent: str, seconds: float
) -> None:
    asked: list[float] = []

    class Asked:
        async def run(self, call: AgentCall) -> AgentResult:
            asked.append(call.deadline_seconds)
            return AgentResult("done")

    place = await engine.place()
    text = f"pattern: sequential\nsteps: [{{id: draft, agent: one{', ' + step if step else ''}}}]\n"
    what = await engine.agent(place, "one", agent, timeout="")
    run_id = await engine.queue_run(place, await engine.orchestration(place, text, one=what))
    await engine.dispatch(place, run_id)
    engine.worker(agents=Asked())
    assert (await engine.ended(run_id))["status"] == "completed"
    assert asked == [seconds]
