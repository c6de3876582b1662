"""Requests to models that are never answered: paid as the most they may have used, so that caps hold all the same."""

from __future__ import annotations

import socket

import pytest
from services.execution.tests.model_stage import Organization, World
from services.execution.tests.scripted_openai import Reply

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]
LATE = Reply(delay_seconds=5)
IMPATIENT = "retry: {max: 3, base: 1ms}\n"
# `Go.`, the input's only text `why` and no schema (`null`) are ten bytes: four tokens at most. 60 may be answered.
MOST = (4, 60, 64)


@pytest.fixture
async def here(shared_world: World, anyio_backend: object) -> Organization:
    """An organization where a token costs a micro-dollar, and nothing has been asked yet."""
    shared_world.forget()
    made = await shared_world.organization()
    await made.price()
    return made


async def test_a_request_that_times_out_is_paid_and_leaves_no_room_for_another(here: Organization) -> None:
    agent = await here.agent(more=IMPATIENT)
    text = (
        'apiVersion: orchestration/v1\npattern: sequential\nlimits: {max_cost_usd: "0.000110"}\n'
        "steps: [{id: a, agent: small, timeout: 400ms}]\n"
    )
    body = {"name": "once", "config_yaml": text, "agent_ids": {"small": {"id": agent["id"]}}}
    await here.make("/v1/orchestrations", body)
    assert (await here.run())["status"] == "completed"  # the first loads the library of models
    here.world.model.replies = [LATE]
    run = await here.run(orchestration="once")
    assert (run["status"], run["stop_reason"], run["cost_usd_micros"]) == ("failed", "max_cost", MOST[2]), run
    (step,) = await here.steps(run)
    assert (step["error_code"], step["input_tokens"], step["output_tokens"], step["cost_usd_micros"]) == (
        "timeout", *MOST,
    )  # fmt: skip
    assert len(here.world.model.requests) == 2
    (fact,) = await here.facts("step.failed")
    assert (fact["cost_usd_micros"], fact["input_tokens"]) == (MOST[2], MOST[0])


async def test_what_never_arrived_or_was_answered_with_an_error_costs_nothing(here: Organization) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = (
            f'provider: openai-compatible, name: small-1, base_url: "http://127.0.0.1:{closed.getsockname()[1]}/v1"'
        )
        await here.agent(nobody, name="nobody")
    await here.agent(more=IMPATIENT)
    here.world.model.replies = [Reply(status=503), Reply(status=503), Reply(status=503)]
    for run in (await here.run(agent="nobody"), await here.run()):
        assert (run["status"], run["cost_usd_micros"], run["input_tokens"]) == ("failed", 0, 0), run


async def test_a_model_that_was_late_is_paid_beside_the_one_that_answered(here: Organization) -> None:
    world = here.world
    await here.price(provider="anthropic", model_name="claude-x", input_usd_micros_per_million=2_000_000)
    further = f'fallback: [{{provider: anthropic, name: claude-x, base_url: "{world.anthropic.base_url}"}}]'
    model = f'provider: openai-compatible, name: small-1, base_url: "{world.model.base_url}", {further}'
    await here.agent(model, more="limits: {timeout: 2s}\n")
    world.model.replies = [LATE]
    run = await here.run()
    (step,) = await here.steps(run)
    assert (run["status"], step["provider"], step["model_name"]) == ("completed", "anthropic", "claude-x"), run
    assert (step["input_tokens"], step["output_tokens"]) == (11 + MOST[0], 7 + MOST[1])
    assert run["cost_usd_micros"] == step["cost_usd_micros"] == 2 * 11 + 7 + MOST[2]


async def test_a_request_that_is_given_up_is_paid(here: Organization) -> None:
    await here.agent()
    client, model = here.client, here.world.model
    model.replies = [LATE]
    model.asked.clear()
    run = await here.start(agent="small")
    await model.asked.wait()
    assert (await client.post(f"/v1/runs/{run['id']}/cancel", {})).status in {200, 202}
    ended = await here.until(run, "cancelled")
    (step,) = await here.steps(run)
    assert (step["error_code"], step["cost_usd_micros"], ended["cost_usd_micros"]) == ("cancelled", MOST[2], MOST[2])


async def test_of_a_model_with_tools_what_was_answered_counts_as_told_and_the_open_request_as_its_most(
    here: Organization,
) -> None:
    tools = here.world.tools
    await here.credential(name="desk", provider="mcp", base_url=tools.url)
    source = f'mcp: {{url: "{tools.url}", credential: desk}}, tools: [search], effects: read'
    await here.agent(more=f"tools: [{{{source}}}]\nlimits: {{max_tokens: 20000, timeout: 2s}}\nretry: {{max: 1}}\n")
    here.world.model.replies = [Reply(calls=(("search", {"q": "rivers"}),), usage=(20, 5)), LATE]
    run = await here.run()
    (step,) = await here.steps(run)
    assert (run["status"], step["error_code"], step["output_tokens"]) == ("failed", "timeout", 5 + 60), run
    assert 20 < step["input_tokens"] < 2_000
    assert step["cost_usd_micros"] == step["input_tokens"] + step["output_tokens"]
