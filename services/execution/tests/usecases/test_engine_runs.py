"""Runs through the real engine: PostgreSQL, the queue, agents over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from services.execution.tests.engine_stage import EngineStage, make_engine_stage

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
