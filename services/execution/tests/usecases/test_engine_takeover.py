"""Who holds a run: workers that die, messages that come twice, workers that come back too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from services.execution.tests.engine_stage import EngineStage, Slow, make_engine_stage, worker_process

from chassis.objects import NoObjects
from execution.clients.dispatch import Dispatch, Line
from execution.domain.runs import Decided, RunStatus
from execution.usecases import engine_facts, leases
from execution.usecases.engine_attempts import Attempts
from execution.usecases.engine_batches import Batches
from execution.usecases.engine_caps import Caps
from execution.usecases.engine_definitions import Definitions
from execution.usecases.engine_prices import Prices
from execution.usecases.engine_progress import Progress
from execution.usecases.engine_rows import Rows, RunWrite
from execution.usecases.engine_runs import MAX_TAKEOVERS
from execution.usecases.engine_waits import Waits
from execution.usecases.engine_writing import LostRunError, Writer
from execution.usecases.steps import StepDecision, decide_step
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


async def test_after_a_worker_was_killed_another_goes_on_where_it_was(engine: EngineStage) -> None:
    place, reached = await engine.place(), asyncio.Event()

    async def hang_once(question: dict[str, Any]) -> Any:
        if question["step"] == "s3" and not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return {"said": question["input"], "step": question["step"]}

    engine.agents.behaviours["echo"] = hang_once
    run_id = await engine.queue_run(place, await engine.sequence(place, 5), "go")
    await engine.dispatch(place, run_id)
    with worker_process(engine) as first:
        await asyncio.wait_for(reached.wait(), 30)
        engine.worker()
        first.kill()
        run = await engine.ended(run_id)
    assert (run["status"], run["step_count"], run["takeovers"]) == ("completed", 5, 0)
    assert run["token"] == 2
    called = [question["step"] for _, question, _ in engine.agents.calls]
    assert called == ["s1", "s2", "s3", "s3", "s4", "s5"]  # what was done is not done again; what was under way is
    keys = [key for _, _, key in engine.agents.calls]
    assert keys[2] == keys[3] == f"{run_id}:s3:0"
    assert [step["node"] for step in await engine.steps(run_id)] == ["s1", "s2", "s3", "s4", "s5"]
    assert await engine.kinds(run_id) == ["run.started", *["step.completed"] * 5, "run.completed"]


async def test_a_second_message_for_a_live_run_changes_nothing(engine: EngineStage) -> None:
    place, go = await engine.place(), asyncio.Event()

    async def wait(_: dict[str, Any]) -> Any:
        await go.wait()
        return "gone"

    engine.agents.behaviours["wait"] = wait
    run_id = await engine.queue_run(place, await engine.agent(place, "wait"))
    await engine.dispatch(place, run_id, run_id)
    engine.worker()
    engine.worker()
    await engine.until(run_id, lambda run: run["last_step"] == 1)
    await engine.dispatch(place, run_id, run_id, run_id, run_id)
    marker = await engine.queue_run(place, await engine.agent(place, "marker"))
    await engine.dispatch(place, marker)
    await engine.ended(marker)  # all messages before it were taken
    go.set()
    run = await engine.ended(run_id)
    assert (run["token"], run["takeovers"], engine.agents.count("wait")) == (1, 0, 1)


async def test_a_redelivered_message_beside_a_fresh_one_does_not_take_the_run_from_it(engine: EngineStage) -> None:
    """As after the death of everything: whoever admits anew dispatches once more, and the broker redelivers."""
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "echo"))
    dead, taken = await Line.open(engine.servers.amqp_url, queue=engine.queue, prefetch=1), asyncio.Event()
    await dead.consume(lambda _: taken.set())
    await engine.dispatch(place, run_id)
    await asyncio.wait_for(taken.wait(), 10)
    holder = await asyncpg.connect(engine.database.url("sweep"))
    async with holder.transaction():
        await holder.execute("select 1 from run where id = $1 for update", run_id)
        await engine.dispatch(place, run_id)
        engine.worker()
        await engine.until_waiting_for_locks(1)  # the claim by the fresh message
        await dead.close()
        await asyncio.sleep(0.5)  # the redelivered message arrives while the run is being claimed
    await holder.close()
    run = await engine.ended(run_id)
    assert (run["status"], run["token"], run["step_count"]) == ("completed", 1, 1)
    assert engine.agents.count("echo") == 1


async def test_a_message_for_a_run_that_is_over_changes_nothing(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"))
    await engine.dispatch(place, run_id)
    engine.worker()
    before = await engine.ended(run_id)
    await engine.dispatch(place, run_id)
    await engine.dispatch(place, run_id, token=1)
    marker = await engine.queue_run(place, await engine.agent(place, "marker"))
    await engine.dispatch(place, marker)
    await engine.ended(marker)
    assert await engine.run(run_id) == before
    assert engine.agents.count("one") == 1


async def open_rows(engine: EngineStage, name: str) -> Rows:
    return await Rows.open(engine.addresses.batch_dsn, name)


@pytest.mark.parametrize("is_kept", [True, False])
async def test_on_one_connection_only_the_organizations_asked_for_exist(engine: EngineStage, *, is_kept: bool) -> None:
    places = [await engine.place(), await engine.place()]
    runs = [await engine.queue_run(place, await engine.agent(place, "one")) for place in places]
    first, second = (place.organization_id for place in places)
    rows = await open_rows(engine, "both")
    told = "select id, current_setting('synchronous_commit') from run where id = any($1)"
    turns = ((first,), (second,), (second,), (first, second), (first,), ())
    for turn in turns:
        found = await rows.fetch(set(turn), told, runs, is_kept=is_kept)
        there = {run for run, place in zip(runs, places, strict=True) if place.organization_id in turn}
        assert {row["id"] for row in found} == there
        assert {row["current_setting"] for row in found} <= {"on" if is_kept else "off"}
    await rows.close()


async def test_a_worker_that_lost_its_run_stores_nothing(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"))
    await engine.let_in(run_id)
    early, late = await open_rows(engine, "early"), await open_rows(engine, "late")
    dispatch = Dispatch(place.organization_id, 30, run_id, 0)
    held = (await early.claim([(dispatch, False)]))[0]
    assert held is not None
    assert await late.claim([(dispatch, False)]) == [None]  # a duplicate never steals
    taken = (await late.claim([(dispatch, True)]))[0]  # what the broker gave again does
    assert taken is not None
    assert (held.token, taken.token, taken.takeovers) == (1, 2, 1)
    writer = Writer(held, Batches(early.write), early)
    stale = RunWrite(held, status=RunStatus.COMPLETED, facts=[engine_facts.started(held)])
    with pytest.raises(LostRunError):
        await writer.end(stale)
    run = await engine.run(run_id)
    assert (run["status"], run["last_step"], run["token"]) == ("running", 0, 2)
    assert await engine.facts(run_id) == []
    await early.close()
    await late.close()


async def test_a_write_whose_answer_was_lost_is_not_stored_twice(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"))
    await engine.let_in(run_id)
    rows = await open_rows(engine, "one")
    held = (await rows.claim([(Dispatch(place.organization_id, 30, run_id, 0), False)]))[0]
    assert held is not None
    calls = 0

    async def stored_but_unheard(writes: Any) -> Any:
        nonlocal calls
        calls += 1
        stored = await rows.write(writes)
        if calls == 1:
            raise ConnectionResetError
        return stored

    writer = Writer(held, Batches(stored_but_unheard), rows)
    assert await writer.store(RunWrite(held, attempts=1, facts=[engine_facts.started(held)])) == "running"
    run = await engine.run(run_id)
    assert (calls, run["last_step"], run["step_count"], held.last_step) == (2, 1, 1, 1)
    assert await engine.kinds(run_id) == ["run.started"]
    await rows.close()


async def test_one_bad_item_of_a_batch_does_not_stop_the_others(engine: EngineStage) -> None:
    place = await engine.place()
    what = await engine.agent(place, "one")
    run_ids = [await engine.queue_run(place, what) for _ in range(3)]
    await engine.let_in(*run_ids)
    rows = await open_rows(engine, "one")
    claimed = await rows.claim([(Dispatch(place.organization_id, 30, run_id, 0), False) for run_id in run_ids])
    writes = Batches(rows.write)
    held = [run for run in claimed if run is not None]
    items = [RunWrite(run) for run in held]
    items[1].status = "no such status"  # the row's constraint refuses it, and with it the whole flush
    results = await asyncio.gather(*(writes.add(item) for item in items), return_exceptions=True)
    assert [results[0], results[2]] == ["running", "running"]
    assert isinstance(results[1], Exception)
    assert [(await engine.run(run.id))["last_step"] for run in held] == [1, 0, 1]
    await rows.close()


async def test_what_a_run_has_used_is_known_as_its_steps_are(engine: EngineStage) -> None:
    """Somebody ends a step after the run was claimed, and before its steps are read."""
    place = await engine.place()
    run_id = await engine.queue_run(place, await engine.agent(place, "one"))
    await engine.let_in(run_id)
    rows = await open_rows(engine, "second")
    (held,) = await rows.claim([(Dispatch(place.organization_id, 30, run_id, 0), False)])
    assert held is not None
    await engine.database.sql(
        """with ended as (insert into step (organization_id, retention_class, run_id, node, iteration, attempt, id,
          step_number, kind, status, input_tokens, cost_usd_micros, started_at, token)
          select organization_id, retention_class, id, 'one', 0, 1, gen_random_uuid(), 1, 'agent', 'completed', 3, 5,
          now(), 1 from run where id = $1)
        update run set answers = 1, step_count = 1, input_tokens = 3, cost_usd_micros = 5 where id = $1""",
        run_id,
    )
    attempts = Attempts(engine.options().agents, NoObjects(), rows, Definitions(rows, None), Prices(rows))
    progress = Progress(held, rows, attempts, Caps(held), Waits(held, attempts))
    await progress.recall(RunWrite(held))
    assert (held.answers, held.step_count, held.input_tokens, held.cost_usd_micros) == (1, 1, 3, 5)
    assert len(progress.completed) == 1
    await rows.close()


async def test_the_reaper_sends_out_again_what_lost_its_worker(engine: EngineStage) -> None:
    place = await engine.place()
    what = await engine.agent(place, "one")
    columns = {"status": "running", "token": 3, "worker_id": "gone"}
    dead = await engine.queue_run(place, what, **columns)
    alive = await engine.queue_run(place, what, **columns)
    await engine.database.sql(
        "update run set lease_until = now() - interval '1 s', started_at = now() where id = $1", dead
    )
    await engine.database.sql(
        "update run set lease_until = now() + interval '1 h', started_at = now() where id = $1", alive
    )
    assert (await leases.reap(engine.addresses)).runs == [dead]
    assert (await leases.reap(engine.addresses)).runs == []  # left alone until it had time to be claimed
    engine.worker()
    run = await engine.ended(dead)
    assert (run["status"], run["token"]) == ("completed", 4)
    assert (await engine.run(alive))["token"] == 3


async def test_a_run_that_brings_down_worker_after_worker_is_given_up(engine: EngineStage) -> None:
    place = await engine.place()
    run_id = await engine.queue_run(
        place, await engine.agent(place, "one"), status="running", token=6, takeovers=MAX_TAKEOVERS - 1
    )
    await engine.database.sql(
        "update run set lease_until = now() - interval '1 s', started_at = now() where id = $1", run_id
    )
    await leases.reap(engine.addresses)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["stop_reason"], run["error_code"]) == ("failed", "crash_loop", "crash_loop")
    assert engine.agents.calls == []
    assert (await engine.facts(run_id))[-1]["data"]["stop_reason"] == "crash_loop"


async def test_a_write_nobody_knows_the_outcome_of_is_not_repeated(engine: EngineStage) -> None:
    place, reached = await engine.place(), asyncio.Event()

    async def pay(_: dict[str, Any]) -> Any:
        reached.set()
        await asyncio.sleep(60)

    engine.agents.behaviours["pay"] = pay
    run_id = await engine.queue_run(place, await engine.agent(place, "pay", "effects: write\n"))
    await engine.dispatch(place, run_id)
    with worker_process(engine) as first:
        await asyncio.wait_for(reached.wait(), 30)
        assert [step["status"] for step in await engine.steps(run_id)] == ["started"]
        engine.worker()
        first.kill()
        run = await engine.until(run_id, lambda run: run["status"] == "waiting")
    assert run["waiting_for"] == "decision"
    step = (await engine.steps(run_id))[0]
    assert step["status"] == "needs_decision"
    told = (await engine.facts(run_id))[-1]
    assert (told["type"], told["data"]["step_ids"]) == ("execution.run.wait_started.v1", [str(step["id"])])
    assert engine.agents.count("pay") == 1


@pytest.mark.parametrize(("answer", "code"), [(503, "unavailable"), (None, "timeout")])
async def test_a_write_without_an_answer_is_not_repeated_while_its_worker_lives(
    engine: EngineStage, answer: int | None, code: str
) -> None:  # fmt: skip
    async def pay(_: dict[str, Any]) -> Any:
        if answer is None:
            await asyncio.sleep(60)
        return answer

    place = await engine.place()
    engine.agents.behaviours["pay"] = pay
    text = "pattern: sequential\nsteps: [{id: pay, agent: pay, timeout: 700ms}, {id: book, agent: book}]\n"
    pay_agent = await engine.agent(place, "pay", "effects: write\nretry: {max: 3, base: 10ms}\n")
    what = await engine.orchestration(place, text, pay=pay_agent, book=await engine.agent(place, "book"))
    run_id = await engine.queue_run(place, what)
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.until(run_id, lambda run: run["status"] == "waiting")
    (step,) = await engine.steps(run_id)
    assert (run["waiting_for"], step["status"], step["error_code"]) == ("decision", "needs_decision", code)
    assert (await engine.kinds(run_id))[-1] == "run.wait_started"
    async with engine.unit(place) as uow:
        said = StepDecision(Decided.COMPLETED, "paid")
        await decide_step(uow, run_id, step["id"], said, objects=NoObjects())
    await engine.dispatch(place, run_id, token=run["token"])
    run = await engine.ended(run_id)
    assert (run["status"], run["output"]["said"], run["step_count"]) == ("completed", "paid", 2)
    assert [step["error_code"] for step in await engine.steps(run_id)] == [None, None]
    assert engine.agents.count("pay") == 1


@pytest.mark.parametrize(("seconds", "status", "step"), [(60, "failed", "skipped"), (3, "timed_out", "needs_decision")])
async def test_a_write_in_doubt_is_seen_in_a_run_that_ends_without_an_answer(
    engine: EngineStage, seconds: int, status: str, step: str
) -> None:
    """Another branch has failed, and passes over it; or the run's time is over."""
    place, other = await engine.place(), Slow()

    async def pay(_: dict[str, Any]) -> Any:
        return 503

    engine.agents.behaviours |= {"pay": pay, "other": other}
    other.answer = 400
    what = await engine.orchestration(
        place,
        "pattern: parallel\nbranches: [{id: pay, agent: pay}, {id: other, agent: other}]\n",
        pay=await engine.agent(place, "pay", "effects: write\n"),
        other=await engine.agent(place, "other"),
    )
    run_id = await engine.queue_run(place, what, limits=f'{{"timeout_seconds": {seconds}}}')
    await engine.dispatch(place, run_id)
    engine.worker()
    async with asyncio.timeout(10):
        while "needs_decision" not in [each["status"] for each in await engine.steps(run_id)]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    if status == "failed":
        other.may_answer.set()
    assert (await engine.ended(run_id))["status"] == status
    known = {each["node"]: (each["status"], each["error_code"]) for each in await engine.steps(run_id)}
    assert known["pay"] == (step, "unavailable")
    assert known["other"][0] == "failed"


async def test_a_write_that_is_told_to_come_later_does(engine: EngineStage) -> None:
    place, answers = await engine.place(), iter([429, "paid"])

    async def pay(_: dict[str, Any]) -> Any:
        return next(answers)

    engine.agents.behaviours["pay"] = pay
    run_id = await engine.queue_run(
        place, await engine.agent(place, "pay", "effects: write\nretry: {max: 3, base: 10ms}\n")
    )
    await engine.dispatch(place, run_id)
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["output"], engine.agents.count("pay")) == ("completed", "paid", 2)


async def test_waiting_for_somebody_is_no_part_of_the_time_a_run_may_take(engine: EngineStage) -> None:
    place = await engine.place()
    what = await engine.sequence(place, 2)
    run_id = await engine.queue_run(place, what, limits='{"timeout_seconds": 60}')
    started = "update run set started_at = now() - interval '2 h', waited = $2::interval where id = $1"
    await engine.database.sql(started, run_id, timedelta(hours=2))
    engine.worker()
    await engine.dispatch(place, run_id)
    assert (await engine.ended(run_id))["status"] == "completed"
    late = await engine.queue_run(place, what, limits='{"timeout_seconds": 60}')
    await engine.database.sql(started, late, timedelta(hours=1))
    await engine.dispatch(place, late)
    assert (await engine.ended(late))["status"] == "timed_out"


async def test_a_worker_told_to_stop_hands_its_runs_over(engine: EngineStage) -> None:
    place, reached = await engine.place(), asyncio.Event()

    async def hang_once(_: dict[str, Any]) -> Any:
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return "done"

    engine.agents.behaviours["hang"] = hang_once
    run_id = await engine.queue_run(place, await engine.agent(place, "hang"))
    await engine.dispatch(place, run_id)
    first = engine.worker()
    await reached.wait()
    first.cancel()
    engine.worker()
    run = await engine.ended(run_id)
    assert (run["status"], run["token"], engine.agents.count("hang")) == ("completed", 2, 2)


async def test_runs_survive_a_database_that_hangs_up_again_and_again(engine: EngineStage) -> None:
    place, calls = await engine.place(), 0

    async def cut(question: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls % 7 == 0:
            await engine.database.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name like 'remit-execution engine%'"
            )
        return question["step"]

    engine.agents.behaviours["echo"] = cut
    what = await engine.sequence(place, 3)
    run_ids = [await engine.queue_run(place, what, number) for number in range(12)]
    engine.worker()
    await engine.dispatch(place, *run_ids)
    for run_id in run_ids:
        run = await engine.ended(run_id)
        assert (run["status"], run["output"], run["step_count"]) == ("completed", "s3", 3)
        assert await engine.kinds(run_id) == ["run.started", *["step.completed"] * 3, "run.completed"]
    assert calls >= 36
