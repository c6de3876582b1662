"""A fork beside the run it comes from, through the real door: outputs, money, tokens, time, and step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from services.execution.tests.model_stage import Organization, World, make_world
from services.execution.tests.scripted_openai import Reply

from remit_local.testing import Servers

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]
ORIGINAL = [Reply("one", usage=(10, 1), delay_seconds=0.3), Reply("two", usage=(20, 2)), Reply("three", usage=(30, 3))]


@pytest.fixture(scope="module")
async def world(
    servers: Servers, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with make_world(servers, tmp_path_factory.mktemp("forks")) as made:
        yield made


async def chain_run(world: World, replies: list[Reply]) -> tuple[Organization, dict[str, Any]]:
    """A run of three steps, whose model answers so; a token costs a micro-dollar."""
    world.forget()
    here = await world.organization()
    await here.price()
    await here.chain("5.00")
    world.model.replies = list(replies)
    return here, await here.run(orchestration="chain")


async def fork(here: Organization, run: dict[str, Any], from_step: str, *replies: Reply) -> dict[str, Any]:
    """The end of a fork, whose model answers so."""
    here.world.model.replies = list(replies)
    answer = await here.client.post(f"/v1/runs/{run['id']}/fork", {"from_step": from_step})
    assert answer.status == 202, answer.body
    return await here.until(answer.json(), "completed", "failed")


async def difference(here: Organization, run: dict[str, Any], role: str = "") -> dict[str, Any]:
    client = here.client
    if role:
        client = here.world.stage.client(await here.world.stage.caller(role, here.caller.organization_id))
    answer = await client.get(f"/v1/runs/{run['id']}/difference")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def changes(found: dict[str, Any]) -> list[tuple[str, str, Any, Any]]:
    return [(step["node"], step["change"], step["output_before"], step["output_after"]) for step in found["steps"]]


async def test_a_fork_is_compared_in_what_it_gave_cost_and_took(world: World) -> None:
    here, original = await chain_run(world, ORIGINAL)
    forked = await fork(here, original, "b", Reply("two", usage=(40, 4)), Reply("other", usage=(5, 5)))
    found = await difference(here, forked)
    assert (found["original_id"], found["fork_id"]) == (original["id"], forked["id"])
    assert found["statuses"] == ["completed", "completed"]
    assert found["outputs"] == [{"text": "three"}, {"text": "other"}]
    assert found["same_output"] is False
    # What was kept was paid once, by the original: the fork's are its own two calls.
    assert found["tokens"] == [66, 54]
    assert found["cost_usd_micros"] == [66, 54]
    assert found["execution_time_ms"] == [original["execution_time_ms"], forked["execution_time_ms"]]
    assert found["execution_time_ms"][0] >= 300
    assert changes(found) == [
        ("a", "kept", {"text": "one"}, {"text": "one"}),
        ("b", "same", {"text": "two"}, {"text": "two"}),
        ("c", "changed", {"text": "three"}, {"text": "other"}),
    ]
    statuses = {(step["iteration"], step["status_before"], step["status_after"]) for step in found["steps"]}
    assert statuses == {(0, "completed", "completed")}


async def test_a_fork_that_gives_the_same_says_so_also_to_whoever_may_not_see_it(world: World) -> None:
    here, original = await chain_run(world, ORIGINAL)
    forked = await fork(here, original, "c", Reply("three", usage=(1, 1)))
    found = await difference(here, forked)
    assert (found["same_output"], found["outputs"]) == (True, [{"text": "three"}] * 2)
    assert [change for _, change, _, _ in changes(found)] == ["kept", "kept", "same"]
    hidden = await difference(here, forked, "viewer")
    assert (hidden["same_output"], hidden["outputs"], hidden["cost_usd_micros"]) == (True, [None, None], [66, 2])
    assert changes(hidden) == [(node, change, None, None) for node, change, _, _ in changes(found)]


async def test_a_fork_of_a_run_that_failed_shows_what_it_mended(world: World) -> None:
    here, original = await chain_run(world, [*ORIGINAL[:2], Reply(status=401)])
    assert original["status"] == "failed"
    forked = await fork(here, original, "c", Reply("three", usage=(30, 3)))
    found = await difference(here, forked)
    assert found["statuses"] == ["failed", "completed"]
    assert found["outputs"] == [original["output"], {"text": "three"}]
    assert (found["cost_usd_micros"], found["same_output"]) == ([33, 33], False)
    mended = found["steps"][-1]
    assert (mended["node"], mended["change"]) == ("c", "changed")
    assert (mended["status_before"], mended["status_after"]) == ("failed", "completed")
    assert (mended["output_before"], mended["output_after"]) == (None, {"text": "three"})


async def test_a_run_that_is_no_fork_has_nothing_to_be_compared_with(world: World) -> None:
    here, original = await chain_run(world, ORIGINAL)
    answer = await here.client.get(f"/v1/runs/{original['id']}/difference")
    assert (answer.status, answer.json()["code"]) == (409, "not_a_fork")
