"""Calls that outlive their run's turn: the run holds nothing meanwhile, and the call's end is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import BESIDE, EngineStage, Place, Slow, make_engine_stage

from chassis.caller import Caller
from chassis.objects import NoObjects
from execution.domain.kills import KillScope
from execution.domain.runs import Decided
from execution.usecases import kill_switches, leases, run_signals, runs, steps
from execution.usecases.admission import Admission
from execution.usecases.detached_steps import lose_step
from execution.usecases.engine_loop import PULSE_SECONDS
from execution.usecases.engine_runs import MAX_TAKEOVERS
from execution.usecases.steps import StepDecision
from execution.usecases.waking import wake_forever
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
AFTER = 0.3
"""A call of these tests is long after so many seconds."""
OVER = """update step set lease_until = now() - interval '1 s'
where run_id = $1 and lease_until is not null and node = coalesce($2, node)"""
ANY = """pattern: parallel
branches: [{id: slow, agent: slow}, {id: other, agent: echo}]
join: {mode: any}
"""


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        made.spawn(wake_forever(made.addresses))
        made.spawn(Admission(made.addresses).run())
        yield made


@pytest.fixture
def slow(engine: EngineStage) -> Slow:
    engine.agents.behaviours["slow"] = slow = Slow()
    return slow


async def begin(
    engine: EngineStage, more: str = "", *, text: str | None = None, **columns: Any
) -> tuple[Place, UUID]:  # fmt: skip
    """A run of the slow agent, or of this orchestration with it."""
    place = await engine.place(max_concurrent_executions=1)
    what = await engine.agent(place, "slow", more)
    if text is not None:
        what = await engine.orchestration(place, text, slow=what, echo=await engine.agent(place, "echo"))
    return place, await engine.queue_run(place, what, **columns)


async def detached(engine: EngineStage, run_id: UUID) -> dict[str, Any]:
    return await engine.until(run_id, lambda run: run["waiting_for"] == "step")


async def lose(engine: EngineStage, run_id: UUID, worker: asyncio.Task[None]) -> None:
    """The worker of a detached call is gone, and its lease over."""
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await engine.database.sql(OVER, run_id, None)
    assert await reap(engine) == 1
    assert await reap(engine) == 0


async def reap(engine: EngineStage) -> int:
    """What the clock does; how many calls had lost their worker. A server that has just come up gives ten seconds."""
    young = "select pg_postmaster_start_time() > now() - interval '10 s'"
    while await engine.database.value(young):  # noqa: ASYNC110  (its clock is the server's)
        await asyncio.sleep(0.5)
    lost = (await leases.reap(engine.addresses)).steps
    for step in lost:
        async with engine.units().begin(Caller.system(step.organization_id, "execution.clock")) as uow:
            assert await lose_step(uow, step)
    return len(lost)


async def signal(engine: EngineStage, place: Place, run_id: UUID) -> None:
    async with engine.unit(place) as uow:
        await run_signals.signal_run(uow, run_id, name="payment", payload={"euro": 5}, objects=NoObjects())


async def test_a_long_call_holds_neither_slot_nor_place_and_its_run_goes_on(engine: EngineStage, slow: Slow) -> None:
    text = "pattern: sequential\nsteps: [{id: first, agent: slow}, {id: then, agent: echo}]\n"
    place, run_id = await begin(engine, text=text)
    engine.worker(detach_seconds=AFTER, slots=1)
    held = await detached(engine, run_id)
    assert (held["status"], held["lease_until"], held["dispatched_at"]) == ("waiting", None, None)
    (step,) = await engine.steps(run_id)
    assert (step["kind"], step["status"], step["lease_until"] is not None) == ("agent", "waiting", True)
    # The only slot, and the only place of the workspace, are free.
    other = await engine.queue_run(place, await engine.agent(place, "other"))
    assert (await engine.ended(other))["status"] == "completed"
    slow.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], run["output"]) == ("completed", 2, {"said": "done", "step": "then"})
    assert (run["input_tokens"], run["output_tokens"]) == (6, 8)
    assert run["waited"].total_seconds() == 0  # the call's time is the run's
    done = (await engine.steps(run_id))[0]
    assert (done["status"], done["lease_until"], done["child"], done["input_tokens"]) == ("completed", None, None, 3)
    assert await engine.kinds(run_id) == [
        "run.started", "run.wait_started", "step.completed", "step.completed", "run.completed",
    ]  # fmt: skip
    facts = await engine.facts(run_id)
    assert (facts[1]["data"]["waiting_for"], facts[1]["data"]["step_ids"]) == ("step", [str(step["id"])])
    assert (facts[2]["data"]["step_id"], facts[2]["data"]["input_tokens"]) == (str(step["id"]), 3)
    assert facts[-1]["data"]["input_tokens"] == 6
    assert slow.calls == 1


async def test_the_call_of_a_tool_is_let_go_of_lost_and_given_up_like_an_agents(
    engine: EngineStage, slow: Slow
) -> None:
    place = await engine.place()
    text = "pattern: sequential\nsteps: [{id: slow, tool: {agent: desk, name: slow}}]\n"
    what = await engine.orchestration(place, text, desk=await engine.tool(place, "slow", "effects: read\n"))
    run_id = await engine.queue_run(place, what)
    worker = engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    (step,) = await engine.steps(run_id)
    assert (step["kind"], step["status"], step["lease_until"] is not None) == ("tool", "waiting", True)
    await lose(engine, run_id, worker)
    engine.worker(detach_seconds=AFTER)
    await slow.until(calls=2)
    await detached(engine, run_id)
    async with engine.unit(place) as uow:
        await runs.cancel_run(uow, run_id, reason="enough")
    await slow.until(hung_up=2)
    assert [(step["attempt"], step["status"], step["error_code"]) for step in await engine.steps(run_id)] == [
        (1, "failed", "worker_lost"), (2, "failed", "cancelled"),
    ]  # fmt: skip
    assert (await engine.kinds(run_id))[-2:] == ["step.failed", "run.cancelled"]


async def test_its_lease_is_renewed_for_as_long_as_it_takes(engine: EngineStage, slow: Slow) -> None:
    _, run_id = await begin(engine)
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    first = (await engine.steps(run_id))[0]["lease_until"]
    async with asyncio.timeout(15):
        while (await engine.steps(run_id))[0]["lease_until"] == first:  # noqa: ASYNC110  (the row is in a database)
            await asyncio.sleep(0.1)
    assert await reap(engine) == 0
    assert (await engine.steps(run_id))[0]["status"] == "waiting"
    slow.may_answer.set()
    assert (await engine.ended(run_id))["status"] == "completed"


async def test_a_failure_is_tried_again_as_its_policy_says(engine: EngineStage, slow: Slow) -> None:
    _, run_id = await begin(engine, "retry: {max: 2, base: 10ms}\n")
    slow.answer = 503
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    slow.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], slow.calls) == ("failed", 2, 2)
    tried = [(step["attempt"], step["status"], step["will_retry"]) for step in await engine.steps(run_id)]
    assert tried == [(1, "failed", True), (2, "failed", False)]


async def test_when_its_worker_is_gone_another_makes_the_call_again(engine: EngineStage, slow: Slow) -> None:
    _, run_id = await begin(engine, "retry: {max: 1}\n")
    first = engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    await lose(engine, run_id, first)
    slow.may_answer.set()
    engine.worker(detach_seconds=AFTER)
    run = await engine.ended(run_id)
    assert (run["status"], run["output"], slow.calls) == ("completed", "done", 2)
    tried = [(step["attempt"], step["status"], step["error_code"]) for step in await engine.steps(run_id)]
    assert tried == [(1, "failed", "worker_lost"), (2, "completed", None)]
    assert (await engine.kinds(run_id)).count("step.failed") == 1


async def test_a_call_that_loses_worker_after_worker_is_given_up(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine)
    first = engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    await lose(engine, run_id, first)
    copied = """insert into step (organization_id, retention_class, run_id, node, iteration, attempt, id, step_number, kind,
      status, error_code, will_retry, started_at, token) select organization_id, retention_class, run_id, node,
      iteration, attempt + $2, gen_random_uuid(), step_number, kind, status, error_code, will_retry, started_at, token
      from step where run_id = $1 and attempt = 1"""
    for number in range(1, MAX_TAKEOVERS):
        await engine.database.sql(copied, run_id, number)
    engine.worker(detach_seconds=AFTER)
    run = await engine.ended(run_id)
    assert (run["status"], run["stop_reason"], slow.calls) == ("failed", "crash_loop", 1)
    assert (await engine.facts(run_id))[-1]["organization_id"] == str(place.organization_id)


async def test_a_write_that_lost_its_worker_waits_for_somebody_to_say(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine, "effects: write\n")
    first = engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    await lose(engine, run_id, first)
    engine.worker(detach_seconds=AFTER)
    await engine.until(run_id, lambda run: run["waiting_for"] == "decision")
    (step,) = await engine.steps(run_id)
    assert (step["status"], slow.calls) == ("needs_decision", 1)
    async with engine.unit(place) as uow:
        said = StepDecision(Decided.COMPLETED, "it happened")
        await steps.decide_step(uow, run_id, step["id"], said, objects=NoObjects())
    run = await engine.ended(run_id)
    assert (run["status"], run["output"], slow.calls) == ("completed", "it happened", 1)


async def test_a_write_lost_beside_another_branch_is_told_and_may_be_passed_over(
    engine: EngineStage, slow: Slow
) -> None:  # fmt: skip
    """Its run is in another worker's hands; a person is asked, and the join does not wait for the answer."""
    place = await engine.place()
    engine.agents.behaviours["echo"] = other = Slow()
    what = await engine.orchestration(
        place, ANY, slow=await engine.agent(place, "slow", "effects: write\n"), echo=await engine.agent(place, "echo")
    )
    run_id = await engine.queue_run(place, what)
    first = engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    # The other branch was lost, too, and is made again at once; then the write is found.
    await engine.database.sql(OVER, run_id, "other")
    assert await reap(engine) == 1
    engine.worker(detach_seconds=60)
    await other.until(calls=2)
    await engine.database.sql(OVER, run_id, "slow")
    assert await reap(engine) == 1
    asked: list[list[str]] = []
    async with asyncio.timeout(20):
        while len(asked) < 2:  # the first says that the calls go on
            asked = [fact["data"]["step_ids"] for fact in await engine.facts(run_id) if "waiting_for" in fact["data"]]
            await asyncio.sleep(0.05)
    known = {step["node"]: step for step in await engine.steps(run_id)}
    assert known["slow"]["status"] == "needs_decision"
    assert asked[-1] == [str(known["slow"]["id"])]
    other.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["output"], slow.calls) == ("completed", {"other": "done"}, 1)
    known = {step["node"]: step for step in await engine.steps(run_id)}
    assert known["slow"]["status"] == "skipped"


async def test_a_worker_that_is_stopped_first_stores_what_has_ended(engine: EngineStage, slow: Slow) -> None:
    _, run_id = await begin(engine)
    worker = engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    async with engine.database.connect("sweep") as holder, holder.transaction():
        await holder.fetch("select id from run where id = $1 for update", run_id)
        slow.may_answer.set()
        await engine.until_waiting_for_locks(1)  # the end is on its way
        worker.cancel()
        await asyncio.sleep(0.1)
    await asyncio.gather(worker, return_exceptions=True)
    assert (await engine.run(run_id))["step_count"] == 1
    assert [step["status"] for step in await engine.steps(run_id)] == ["completed"]


async def test_cancelled_it_is_given_up_and_told(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine)
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    async with engine.unit(place) as uow:
        await runs.cancel_run(uow, run_id, reason="enough")
    await slow.until(hung_up=1)
    (step,) = await engine.steps(run_id)
    assert ((await engine.run(run_id))["status"], step["status"], step["error_code"]) == (
        "cancelled", "failed", "cancelled",
    )  # fmt: skip
    assert await engine.kinds(run_id) == [
        "run.started", "run.wait_started", "run.cancel_requested", "step.failed", "run.cancelled",
    ]  # fmt: skip
    assert (await engine.facts(run_id))[-1]["data"]["step_count"] == (await engine.run(run_id))["step_count"] == 1


async def test_killed_it_is_given_up_and_told_as_a_call_that_had_left(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine)
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    async with engine.unit(place) as uow:
        switch = await kill_switches.engage_kill_switch(uow, scope=KillScope.RUN, target_id=run_id, reason="now")
    await slow.until(hung_up=1)
    (step,) = await engine.steps(run_id)
    async with engine.unit(place) as uow:
        report = await kill_switches.read_report(uow, switch)
    assert (report.stopped, report.stopping, report.calls_left) == (1, 0, [step["id"]])
    assert (step["status"], step["error_code"]) == ("failed", "killed")
    assert (await engine.kinds(run_id))[-2:] == ["step.failed", "run.cancelled"]
    assert (await engine.facts(run_id))[-1]["data"]["step_count"] == (await engine.run(run_id))["step_count"] == 1


async def test_its_run_ends_at_its_deadline_all_the_same(engine: EngineStage, slow: Slow) -> None:
    _, run_id = await begin(engine, limits='{"timeout_seconds": 3}')
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    run = await engine.ended(run_id, 10)
    assert (run["status"], run["stop_reason"]) == ("timed_out", "timeout")
    await slow.until(hung_up=1)
    (step,) = await engine.steps(run_id)
    assert (step["status"], step["error_code"]) == ("failed", "timeout")


async def test_other_branches_go_on_beside_it(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine, text=BESIDE)
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    await signal(engine, place, run_id)
    await engine.until(run_id, lambda run: run["step_count"] == 2)
    again = await detached(engine, run_id)
    assert (again["status"], slow.calls) == ("waiting", 1)
    slow.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], slow.calls) == ("completed", 4, 1)
    totals = [(each["input_tokens"], each["output_tokens"]) for each in await engine.steps(run_id)]
    assert (run["input_tokens"], run["output_tokens"]) == tuple(map(sum, zip(*totals, strict=True))) == (9, 12)
    assert (await engine.facts(run_id))[-1]["data"]["input_tokens"] == 9


async def test_its_end_is_heard_by_whoever_has_the_run_meanwhile(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine, text=BESIDE)
    engine.agents.behaviours["echo"] = other = Slow()
    engine.worker(detach_seconds=AFTER, slots=1)
    await detached(engine, run_id)
    _, full = await begin(engine)  # the first worker has room for no more
    await slow.until(calls=2)
    engine.worker(detach_seconds=60)
    await signal(engine, place, run_id)
    await other.until(calls=1)
    token = (await engine.run(run_id))["token"]
    slow.may_answer.set()
    await engine.until(run_id, lambda run: run["step_count"] == 2)
    await asyncio.sleep(6 * PULSE_SECONDS)
    assert (await engine.run(run_id))["status"] == "running"
    other.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], run["token"]) == ("completed", 4, token)
    assert (await engine.ended(full))["status"] == "completed"
    assert (slow.calls, other.calls) == (2, 2)
    assert (await engine.facts(run_id))[-1]["data"]["input_tokens"] == run["input_tokens"] == 9


async def test_an_end_in_the_moment_of_a_cancel_is_neither_lost_nor_counted_twice(
    engine: EngineStage, slow: Slow
) -> None:  # fmt: skip
    place, run_id = await begin(engine, text=BESIDE)
    engine.agents.behaviours["echo"] = other = Slow()
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    await signal(engine, place, run_id)
    await other.until(calls=1)
    # Both in one transaction: whoever has the run hears of the cancel first.
    await engine.database.sql(
        """with ended as (update step set status = 'completed', output = '"done"', input_tokens = 3, lease_until = null,
          child = null where run_id = $1 and node = 'slow' and status = 'waiting')
        update run set answers = answers + 1, step_count = step_count + 1, input_tokens = input_tokens + 3,
          status = 'cancelling' where id = $1""",
        run_id,
    )
    run = await engine.ended(run_id)
    known = {step["node"]: step["status"] for step in await engine.steps(run_id)}
    assert (run["status"], known) == ("cancelled", {"slow": "completed", "paid": "completed", "after": "failed"})
    assert (run["step_count"], run["input_tokens"]) == (3, 3)
    assert (await engine.kinds(run_id)).count("step.failed") == 1
    assert (await engine.facts(run_id))[-1]["data"]["step_count"] == 3


async def test_it_is_given_up_once_others_have_decided_the_join(engine: EngineStage, slow: Slow) -> None:
    _, run_id = await begin(engine, text=ANY)
    engine.agents.behaviours["echo"] = other = Slow()
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    other.may_answer.set()
    run = await engine.ended(run_id)
    assert (run["status"], run["output"]) == ("completed", {"other": "done"})
    await slow.until(hung_up=1)
    known = {step["node"]: step["status"] for step in await engine.steps(run_id)}
    assert known == {"slow": "skipped", "other": "completed"}


async def test_what_it_may_use_counts_while_it_is_under_way(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine, text=BESIDE, limits='{"max_steps": 2}')
    engine.worker(detach_seconds=AFTER)
    await detached(engine, run_id)
    await signal(engine, place, run_id)
    run = await engine.ended(run_id)
    # The signal's step and the call under way are two; the next would be one too many.
    assert (run["status"], run["stop_reason"]) == ("failed", "max_steps")


async def test_where_there_is_no_room_its_run_is_held(engine: EngineStage, slow: Slow) -> None:
    place, run_id = await begin(engine)
    engine.worker(detach_seconds=AFTER, slots=1)
    await detached(engine, run_id)
    held = await engine.queue_run(place, await engine.agent(place, "slow"))
    await slow.until(calls=2)
    await asyncio.sleep(3 * AFTER)
    assert (await engine.run(held))["status"] == "running"
    slow.may_answer.set()
    assert {(await engine.ended(each))["status"] for each in (run_id, held)} == {"completed"}
