"""Runs that wait for clocks, signals and people: held by nobody meanwhile, resumed once, whoever dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import BESIDE, EngineStage, Place, Slow, make_engine_stage, worker_process

from chassis.clock import utc_now
from chassis.errors import ConflictError
from chassis.objects import NoObjects
from chassis.uow import UnitOfWork
from contracts.policy import ApprovalDecided, ApprovalExpired
from execution.usecases import approvals, run_signals, runs
from execution.usecases.admission import Admission
from execution.usecases.waking import wake_forever
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
TIMER = """pattern: sequential
steps: [{id: one, agent: echo}, {id: pause, timer: {for: 500ms}}, {id: two, agent: echo}]
"""
SIGNAL = """pattern: sequential
steps:
  - {id: paid, signal: {name: payment, timeout: 1h}}
  - {id: send, agent: echo, in: {paid: "${steps.paid.output}"}}
"""
APPROVAL = """pattern: approval
before: {agent: echo}
approvers: {roles: [operator]}
bind: [amount]
expires: 2h
"""


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        made.spawn(wake_forever(made.addresses))
        made.spawn(Admission(made.addresses).run())
        yield made


async def start(engine: EngineStage, text: str, value: Any = None, **agents: str) -> tuple[Place, UUID]:
    place = await engine.place()
    known = {alias: await engine.agent(place, name) for alias, name in (agents or {"echo": "echo"}).items()}
    return place, await engine.queue_run(place, await engine.orchestration(place, text, **known), value)


async def waiting(engine: EngineStage, run_id: UUID) -> dict[str, Any]:
    return await engine.until(run_id, lambda run: run["status"] == "waiting")


async def do(engine: EngineStage, place: Place, work: Any) -> Any:
    """A use case in a unit of work, as a door or consumer does it."""
    async with engine.unit(place) as uow:
        return await work(uow)


async def signal(engine: EngineStage, place: Place, run_id: UUID, payload: Any, name: str = "payment") -> None:
    await do(
        engine, place, lambda uow: run_signals.signal_run(uow, run_id, name=name, payload=payload, objects=NoObjects())
    )  # fmt: skip


async def asked(engine: EngineStage, run_id: UUID) -> dict[str, Any]:
    """What the run asks policy for."""
    (fact,) = [fact for fact in await engine.facts(run_id) if fact["type"] == "execution.run.wait_started.v1"]
    (wanted,) = fact["data"]["approvals"]
    return dict(wanted)


def decided(wanted: dict[str, Any], run_id: UUID, outcome: str, **changes: Any) -> Any:
    known = {name: wanted[name] for name in ("approval_id", "step_id", "action", "resource_type", "resource_id")}
    known |= {"requester_id": wanted["requester_id"], "digest": wanted["digest"], "expires_at": wanted["expires_at"]}
    if outcome == "expired":
        return ApprovalExpired(**known, run_id=run_id)
    said = {"outcome": outcome, "approver_id": "u-2", "decided_at": utc_now(), "reason": "fine"}
    return ApprovalDecided(**known | said | changes, run_id=run_id)


async def test_a_timer_holds_nothing_and_goes_on_when_its_time_is_over(engine: EngineStage) -> None:
    _, run_id = await start(engine, TIMER, "go")
    engine.worker()
    held = await waiting(engine, run_id)
    assert (held["waiting_for"], held["lease_until"], held["dispatched_at"]) == ("timer", None, None)
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], run["token"]) == ("completed", 3, 2)
    assert run["waited"] > timedelta(seconds=0.4)
    steps = [(step["node"], step["kind"], step["status"]) for step in await engine.steps(run_id)]
    assert steps == [("one", "agent", "completed"), ("pause", "timer", "completed"), ("two", "agent", "completed")]
    assert [question["input"] for _, question, _ in engine.agents.calls][1] == {"said": "go", "step": "one"}
    assert await engine.kinds(run_id) == [
        "run.started", "step.completed", "run.wait_started", "step.completed", "step.completed", "run.completed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("until", "status", "code"),
    [
        (timedelta(seconds=0.3), "completed", None),
        ("2020-01-01T00:00:00Z", "completed", None),
        ("tomorrow", "failed", "invalid_time"),
        ("2026-01-01T00:00:00", "failed", "invalid_time"),
        (timedelta(days=31), "failed", "invalid_time"),
    ],
)
async def test_a_timer_may_wait_for_a_moment(engine: EngineStage, until: Any, status: str, code: str | None) -> None:
    text = 'pattern: sequential\nsteps: [{id: at, timer: {until: "${input.at}"}}, {id: go, agent: echo}]\n'
    _, run_id = await start(
        engine, text, {"at": (utc_now() + until).isoformat() if isinstance(until, timedelta) else until}
    )
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == (status, code)


async def test_a_signal_resumes_its_run_with_its_payload(engine: EngineStage) -> None:
    place, run_id = await start(engine, SIGNAL)
    engine.worker()
    await waiting(engine, run_id)
    with pytest.raises(ConflictError, match="waits for a signal 'other'") as refused:
        await signal(engine, place, run_id, 1, "other")
    assert refused.value.code == "signal_not_awaited"
    await signal(engine, place, run_id, {"euro": 5})
    run = await engine.ended(run_id)
    assert (run["status"], run["output"]["said"]) == ("completed", {"paid": {"euro": 5}})
    with pytest.raises(ConflictError):
        await signal(engine, place, run_id, {"euro": 6})
    assert "run.signalled" in await engine.kinds(run_id)


async def test_a_signal_that_does_not_come_in_time_fails_the_step_or_is_gone_without(engine: EngineStage) -> None:
    _, failing = await start(engine, SIGNAL.replace("1h", "300ms"))
    _, going_on = await start(engine, SIGNAL.replace("1h", "300ms, on_timeout: continue"))
    engine.worker()
    failed, completed = await engine.ended(failing), await engine.ended(going_on)
    assert (failed["status"], failed["error_code"]) == ("failed", "signal_timed_out")
    assert completed["output"]["said"] == {"paid": {"outcome": "timed_out"}}


async def test_a_run_asks_for_approval_of_exactly_this_and_acts_once_it_has_it(engine: EngineStage) -> None:
    place, run_id = await start(engine, APPROVAL, {"amount": 7, "iban": "secret"})
    engine.worker()
    held = await waiting(engine, run_id)
    wanted = await asked(engine, run_id)
    assert held["waiting_for"] == "approval"
    assert (wanted["approvers"], wanted["shown"], wanted["requester_id"]) == (
        ["role:operator"],
        {"amount": 7},
        "owner-1",
    )
    assert len(wanted["digest"]) == 64
    assert engine.agents.calls == []
    answer = decided(wanted, run_id, "approved")
    await do(engine, place, lambda uow: approvals.answer_approval(uow, answer))
    await do(engine, place, lambda uow: approvals.answer_approval(uow, answer))  # a second time changes nothing
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], run["answers"]) == ("completed", 2, 1)
    assert engine.agents.count("echo") == 1
    output = (await engine.steps(run_id))[0]["output"]
    assert b'"approver_id":"u-2"' in output


@pytest.mark.parametrize(
    ("outcome", "changes", "code"),
    [
        ("rejected", {}, "approval_rejected"),
        ("expired", {}, "approval_expired"),
        ("approved", {"digest": "0" * 64}, "approval_digest_mismatch"),
    ],
)
async def test_without_approval_nothing_is_done(engine: EngineStage, outcome: str, changes: Any, code: str) -> None:
    place, run_id = await start(engine, APPROVAL, {"amount": 7})
    engine.worker()
    await waiting(engine, run_id)
    answer = decided(await asked(engine, run_id), run_id, outcome, **changes)
    await do(engine, place, lambda uow: approvals.answer_approval(uow, answer))
    run = await engine.ended(run_id)
    assert (run["status"], run["error_code"]) == ("failed", code)
    assert engine.agents.calls == []


async def test_what_is_answered_while_another_branch_works_is_taken_up_at_once(engine: EngineStage) -> None:
    go = asyncio.Event()

    async def slow(_: dict[str, Any]) -> Any:
        await go.wait()
        return "slow"

    engine.agents.behaviours["slow"] = slow
    place, run_id = await start(engine, BESIDE, slow="slow", echo="echo")
    engine.worker()
    await engine.until(run_id, lambda run: run["last_step"] > 0 and run["status"] == "running")
    await signal(engine, place, run_id, 5)
    async with asyncio.timeout(10):
        while engine.agents.count("echo") == 0:  # noqa: ASYNC110  (the agent is called by another task)
            await asyncio.sleep(0.02)
    assert not go.is_set()
    go.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["token"], run["step_count"]) == ("completed", 1, 4)


async def test_an_answer_in_the_moment_a_run_lets_go_is_not_lost(engine: EngineStage) -> None:
    """The signal commits after the step is stored as waiting and before its run is."""
    place, run_id = await start(engine, BESIDE, slow="slow", echo="echo")
    answered = asyncio.Event()

    async def slow(_: dict[str, Any]) -> Any:
        await engine.until(run_id, lambda run: run["last_step"] > 0)
        await signal(engine, place, run_id, 5)
        answered.set()
        return "slow"

    engine.agents.behaviours["slow"] = slow
    engine.worker()
    run = await engine.ended(run_id)
    assert answered.is_set()
    assert (run["status"], run["step_count"]) == ("completed", 4)
    assert engine.agents.count("slow") == 1


async def test_a_branch_that_is_not_waited_for_any_more_is_skipped(engine: EngineStage) -> None:
    text = """pattern: parallel
branches: [{id: a, agent: echo}, {id: b, agent: never}]
join: {mode: any}
"""
    place, run_id = await start(engine, text, echo="echo", never="never")
    graph = """update orchestration_version set graph = jsonb_set(graph, '{nodes,2}',
      '{"kind": "wait", "id": "b", "wait": "signal", "signal": "payment", "timeout_seconds": 60,
        "approvers": [], "on_refusal": "fail"}')"""
    await engine.database.sql(graph)
    go = asyncio.Event()

    async def later(_: dict[str, Any]) -> Any:
        await go.wait()
        return "done"

    engine.agents.behaviours["echo"] = later
    engine.worker()
    await engine.until(run_id, lambda run: run["last_step"] > 0)
    go.set()
    run = await engine.ended(run_id)
    assert run["status"] == "completed"
    assert sorted((step["node"], step["status"]) for step in await engine.steps(run_id)) == [
        ("a", "completed"), ("b", "skipped"),
    ]  # fmt: skip
    (skipped,) = [step["id"] for step in await engine.steps(run_id) if step["node"] == "b"]
    told = [fact["data"] for fact in await engine.facts(run_id) if fact["type"] == "execution.step.skipped.v1"]
    assert [(fact["step_id"], fact["node"], fact["kind"]) for fact in told] == [(str(skipped), "b", "wait")]
    with pytest.raises(ConflictError):
        await signal(engine, place, run_id, 1)


async def test_a_run_that_is_cancelled_while_it_waits_ends_at_once_and_asks_nobody(engine: EngineStage) -> None:
    place, run_id = await start(engine, SIGNAL)
    engine.worker()
    await waiting(engine, run_id)

    async def cancel(uow: UnitOfWork) -> None:
        await runs.cancel_run(uow, run_id, reason="enough")

    await do(engine, place, cancel)
    run = await engine.run(run_id)
    assert (run["status"], run["wake_at"]) == ("cancelled", None)
    assert [step["status"] for step in await engine.steps(run_id)] == ["skipped"]


async def test_a_worker_that_is_killed_beside_a_wait_leaves_it_to_the_next(engine: EngineStage) -> None:
    reached = asyncio.Event()

    async def hang_once(_: dict[str, Any]) -> Any:
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return "slow"

    engine.agents.behaviours["slow"] = hang_once
    place, run_id = await start(engine, BESIDE, slow="slow", echo="echo")
    with worker_process(engine) as first:
        await asyncio.wait_for(reached.wait(), 30)
        engine.worker()
        first.kill()
        await signal(engine, place, run_id, 5)
        run = await engine.ended(run_id)
    assert (run["status"], run["step_count"]) == ("completed", 4)
    steps = [(step["node"], step["attempt"], step["status"]) for step in await engine.steps(run_id)]
    assert sorted(steps) == [(name, 1, "completed") for name in ("after", "paid", "slow", "sum")]


async def test_answers_that_come_while_the_run_is_queued_are_taken_up(engine: EngineStage) -> None:
    both = """pattern: graph
nodes:
  - {id: one, approval: {approvers: {roles: [operator]}}}
  - {id: two, approval: {approvers: {roles: [operator]}}}
  - {id: sum, agent: echo}
edges: [{from: one, to: sum}, {from: two, to: sum}]
"""
    place, run_id = await start(engine, both, {"amount": 1})
    engine.worker()
    await waiting(engine, run_id)
    facts = [fact for fact in await engine.facts(run_id) if fact["type"] == "execution.run.wait_started.v1"]
    wanted = [dict(each) for fact in facts for each in fact["data"]["approvals"]]
    await engine.database.sql("update workspace set max_concurrent_executions = 0")
    for each in wanted:
        answer = decided(each, run_id, "approved")
        await do(engine, place, lambda uow, answer=answer: approvals.answer_approval(uow, answer))
    assert [step["status"] for step in await engine.steps(run_id)] == ["completed", "completed"]
    await engine.database.sql("update workspace set max_concurrent_executions = 9")
    assert (await engine.ended(run_id))["status"] == "completed"


async def test_a_wait_is_over_by_the_clock_also_while_another_branch_is_at_work(engine: EngineStage) -> None:
    engine.agents.behaviours["slow"] = slow = Slow()
    text = BESIDE.replace("signal: {name: payment}", "timer: {for: 500ms}")
    _, run_id = await start(engine, text, "go", slow="slow", echo="echo")
    engine.worker()
    await engine.until(run_id, lambda run: run["step_count"] == 2)  # the timer, and what follows it
    assert slow.calls == 1
    slow.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["token"]) == ("completed", 1)


async def test_a_call_that_a_void_end_has_given_up_is_made_again(engine: EngineStage) -> None:
    """A signal comes in the moment in which its wait, and with it the run, is over by the clock."""
    engine.agents.behaviours["slow"] = slow = Slow()
    text = BESIDE.replace("{name: payment}", "{name: payment, timeout: 3s}")
    place, run_id = await start(engine, text, "go", slow="slow", echo="echo")
    engine.worker()
    async with asyncio.timeout(10):
        while not await engine.steps(run_id):  # noqa: ASYNC110  (the row is in a database)
            await asyncio.sleep(0.02)
    async with engine.unit(place) as uow:
        await run_signals.signal_run(uow, run_id, name="payment", payload={"euro": 5}, objects=NoObjects())
        await uow.flush()
        await engine.until_waiting_for_locks(1)  # the end of the run, by the clock
    slow.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"]) == ("completed", 5)
    tried = [(step["node"], step["status"], step["will_retry"]) for step in await engine.steps(run_id)]
    assert ("slow", "failed", True) in tried
    assert ("slow", "completed", False) in tried
    assert slow.calls == 2
