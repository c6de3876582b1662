"""Runs done again from a step: what came before is kept, what follows is new, writes are played."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import EngineStage, Place, make_engine_stage

from chassis.errors import ConflictError, InvalidError
from chassis.objects import NoObjects, Objects, open_objects
from chassis.rules import Rules
from chassis.sealing import Keyring, write_keyring
from execution.domain.forks import Change
from execution.usecases import forks
from execution.usecases.admission import Admission
from execution.usecases.forks import Comparison, ForkRequest
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
OPEN = Rules("active", 0, None, 0)
PAY = """pattern: sequential
steps:
  - {id: draft, agent: echo}
  - {id: pay, agent: payer}
  - {id: book, agent: echo, in: {paid: "${steps.pay.output}", wish: "${input.wish}"}}
"""


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        made.spawn(Admission(made.addresses).run())
        yield made


async def paid(engine: EngineStage, **options: Any) -> tuple[Place, UUID]:
    """A run that has paid and booked."""
    place = await engine.place()
    payer = await engine.agent(place, "payer", "effects: write\n")
    what = await engine.orchestration(place, PAY, echo=await engine.agent(place, "echo"), payer=payer)
    run_id = await engine.queue_run(place, what, {"wish": "one"})
    engine.worker(**options)
    assert (await engine.ended(run_id))["status"] == "completed"
    return place, run_id


async def fork(
    engine: EngineStage,
    place: Place,
    run_id: UUID,
    key: str | None = None,
    objects: Objects | None = None,
    **asked: Any,
) -> UUID:
    async with engine.unit(place) as uow:
        run = await forks.fork_run(
            uow, run_id, ForkRequest(**asked), rules=OPEN, objects=objects or NoObjects(), idempotency_key=key
        )
        return run.id


async def compare(engine: EngineStage, place: Place, run_id: UUID) -> Comparison:
    async with engine.unit(place) as uow:
        return await forks.compare_run(uow, run_id, objects=NoObjects())


async def test_a_fork_keeps_what_came_before_and_does_the_rest_again(engine: EngineStage) -> None:
    place, original = await paid(engine)
    fork_id = await fork(engine, place, original, from_step="book", input={"wish": "two"}, has_input=True)
    run = await engine.ended(fork_id)
    assert (run["status"], run["forked_from"], run["trigger_type"]) == ("completed", original, "fork")
    assert run["output"]["said"]["wish"] == "two"
    assert (run["step_count"], run["cost_usd_micros"]) == (1, 0)
    assert [question["step"] for _, question, _ in engine.agents.calls] == ["draft", "pay", "book", "book"]
    kept = {step["node"]: step["copied_from"] for step in await engine.steps(fork_id)}
    first = {step["node"]: step["id"] for step in await engine.steps(original)}
    assert kept == {"draft": first["draft"], "pay": first["pay"], "book": None}
    assert await engine.kinds(fork_id) == [
        "run.queued", "decision.recorded", "run.started", "step.completed", "run.completed",
    ]  # fmt: skip
    found = await compare(engine, place, fork_id)
    assert [(each.node, each.change) for each in found.steps] == [
        ("draft", Change.KEPT), ("pay", Change.KEPT), ("book", Change.CHANGED),
    ]  # fmt: skip


async def test_a_write_is_played_from_the_record_unless_it_is_allowed(engine: EngineStage) -> None:
    place, original = await paid(engine)
    played = await engine.ended(await fork(engine, place, original, from_step="draft"))
    assert (played["status"], played["step_count"]) == ("completed", 3)
    assert engine.agents.count("payer") == 1
    steps = {step["node"]: step for step in await engine.steps(played["id"])}
    assert (steps["pay"]["effects"], steps["pay"]["copied_from"] is not None) == ("read", True)
    really = await engine.ended(await fork(engine, place, original, from_step="draft", allow_writes=True))
    assert really["status"] == "completed"
    assert engine.agents.count("payer") == 2


async def test_a_write_that_was_never_done_is_not_made_up(engine: EngineStage) -> None:
    place = await engine.place()
    payer = await engine.agent(place, "payer", "effects: write\nretry: {max: 1}\n")
    what = await engine.orchestration(place, PAY, echo=await engine.agent(place, "echo"), payer=payer)

    async def broken(_: dict[str, Any]) -> Any:
        return 402

    engine.agents.behaviours["payer"] = broken
    run_id = await engine.queue_run(place, what, {"wish": "one"})
    engine.worker()
    assert (await engine.ended(run_id))["status"] == "failed"
    engine.agents.behaviours.pop("payer")
    again = await engine.ended(await fork(engine, place, run_id, from_step="pay"))
    assert (again["status"], again["error_code"]) == ("failed", "write_not_recorded")
    allowed = await engine.ended(await fork(engine, place, run_id, from_step="pay", allow_writes=True))
    assert allowed["status"] == "completed"


async def test_a_fork_of_a_step_that_never_was_is_refused_and_leaves_nothing(engine: EngineStage) -> None:
    place, original = await paid(engine)
    with pytest.raises(InvalidError, match="Its steps: draft, pay, book") as refused:
        await fork(engine, place, original, from_step="nowhere")
    assert refused.value.code == "unknown_step"
    with pytest.raises(InvalidError):
        await fork(engine, place, original, from_step="book", from_iteration=1)
    with pytest.raises(ConflictError, match="no fork"):
        await compare(engine, place, original)
    assert (await engine.database.sql("select count(*) from run"))[0][0] == 1


async def test_the_same_key_forks_once(engine: EngineStage) -> None:
    place, original = await paid(engine)
    one = await fork(engine, place, original, key="k", from_step="book")
    assert await fork(engine, place, original, key="k", from_step="book") == one
    with pytest.raises(ConflictError) as refused:
        await fork(engine, place, original, key="k", from_step="pay")
    assert refused.value.code == "idempotency_key_reused"


async def test_large_payloads_are_the_forks_own(engine: EngineStage, tmp_path: Path) -> None:
    write_keyring(tmp_path / "keys")
    objects = open_objects(tmp_path / "objects", Keyring.read(tmp_path / "keys"))
    large = "x" * 100_000

    async def say_much(question: dict[str, Any]) -> Any:
        return {"large": large, "step": question["step"]}

    engine.agents.behaviours["echo"] = say_much
    place, original = await paid(engine, objects=objects)
    fork_id = await fork(engine, place, original, objects=objects, from_step="book")
    run = await engine.ended(fork_id)
    assert run["status"] == "completed"
    kept = next(step for step in await engine.steps(fork_id) if step["node"] == "draft")
    assert str(fork_id) in kept["output_ref"]
    assert large.encode() in (await objects.get(kept["output_ref"]) or b"")
