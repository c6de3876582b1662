"""Routers, maps and loops through the real engine: steps are rows of their time round, each done once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from services.execution.tests.engine_stage import EngineStage, make_engine_stage

from remit_local.testing import Servers

pytestmark = pytest.mark.anyio
ROUTER = """pattern: router
classifier: {agent: triage}
routes: {billing: {agent: clerk}, tech: {agent: desk}}
"""
MAP = """pattern: map_reduce
over: "${input.documents}"
as: doc
map: {agent: reader, in: {text: "${doc}"}}
concurrency: 3
reduce: {agent: merger, in: {all: "${previous}"}}
"""
LOOP = """pattern: loop_until
body: {agent: coder, in: {draft: "${previous.draft}"}}
judge: {agent: critic}
max_iterations: 5
"""


@pytest.fixture(scope="module")
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


async def run(engine: EngineStage, text: str, value: Any, **behaviours: Any) -> tuple[dict[str, Any], list[Any]]:
    """The run's end, and its steps as (node, iteration, status)."""
    place = await engine.place()
    engine.agents.behaviours = behaviours
    agents = {name: await engine.agent(place, name) for name in behaviours}
    run_id = await engine.queue_run(place, await engine.orchestration(place, text, **agents), value)
    await engine.dispatch(place, run_id)
    engine.worker()
    ended = await engine.ended(run_id)
    return ended, [(step["node"], step["iteration"], step["status"]) for step in await engine.steps(run_id)]


async def test_a_router_asks_and_does_one_of_its_routes(engine: EngineStage) -> None:
    async def triage(question: dict[str, Any]) -> Any:
        return {"route": question["input"]["about"]}

    async def answer(question: dict[str, Any]) -> Any:
        return {"answer": question["input"]}

    ended, steps = await run(engine, ROUTER, {"about": "tech"}, triage=triage, clerk=answer, desk=answer)
    assert (ended["status"], ended["output"]) == ("completed", {"answer": {"about": "tech"}})
    assert steps == [("classify", 0, "completed"), ("tech", 0, "completed")]
    lost, steps = await run(engine, ROUTER, {"about": "mars"}, triage=triage, clerk=answer, desk=answer)
    assert (lost["status"], lost["error_code"]) == ("failed", "no_route")
    assert steps == [("classify", 0, "completed")]


async def test_a_map_does_each_item_once_and_reduces_them_in_order(engine: EngineStage) -> None:
    async def read(question: dict[str, Any]) -> Any:
        return question["input"]["text"] * 2

    async def merge(question: dict[str, Any]) -> Any:
        return {"all": question["input"]["all"]}

    letters = list("abcdefgh")
    ended, steps = await run(engine, MAP, {"documents": letters}, reader=read, merger=merge)
    assert (ended["status"], ended["output"]) == ("completed", {"all": [letter * 2 for letter in letters]})
    assert ended["step_count"] == len(steps) == 9
    assert sorted(steps) == [("map", number, "completed") for number in range(8)] + [("reduce", 0, "completed")]


async def test_a_loop_goes_round_until_its_judge_is_content(engine: EngineStage) -> None:
    async def code(question: dict[str, Any]) -> Any:
        return {"draft": question["input"]["draft"] + 1}

    async def judge(question: dict[str, Any]) -> Any:
        return {"done": question["input"]["draft"] == 3}

    ended, steps = await run(engine, LOOP, {"draft": 0}, coder=code, critic=judge)
    assert (ended["status"], ended["output"]) == ("completed", {"draft": 3})
    assert steps == [(node, number, "completed") for number in range(3) for node in ("body", "judge")]
    assert [key for _, _, key in engine.agents.calls[-2:]] == [f"{ended['id']}:body:2", f"{ended['id']}:judge:2"]


@pytest.mark.parametrize("more", ["", "limits: {max_steps: 3}\n"])
async def test_what_was_done_is_undone_when_the_run_fails(engine: EngineStage, more: str) -> None:
    async def book(question: dict[str, Any]) -> Any:
        return {"booking": question["step"]}

    async def refuse(_: dict[str, Any]) -> Any:
        raise RuntimeError("no money")

    text = """pattern: sequential
steps: [{id: flight, agent: book}, {id: hotel, agent: book}, {id: pay, agent: bank, retry: {max: 1}}]
on_failure: {compensate: [{step: flight, agent: undo}, {step: hotel, agent: undo}]}
"""
    ended, steps = await run(engine, text + more, {}, book=book, bank=refuse, undo=book)
    assert (ended["status"], ended["error_code"]) == ("failed", "unavailable")
    done = [("flight", 0, "completed"), ("hotel", 0, "completed"), ("pay", 0, "failed")]
    assert steps == [*done, ("undo_hotel", 0, "completed"), ("undo_flight", 0, "completed")]
