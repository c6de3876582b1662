"""Tools through the whole engine: keys, errors, retries; the tools' server is one over HTTP."""

from __future__ import annotations

import pytest
from services.execution.tests.model_stage import SECRET, Organization, World
from services.execution.tests.scripted_mcp import Said
from services.execution.tests.scripted_openai import Reply

from execution.clients.http_agent import signature

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]


@pytest.fixture
async def world(shared_world: World, anyio_backend: object) -> World:
    """The same for all, but with nothing asked yet."""
    shared_world.forget()
    return shared_world


async def finder(here: Organization, more: str = "") -> None:
    text = (
        f'apiVersion: agent/v1\nkind: mcp\nserver: {{url: "{here.world.tools.url}", credential: desk}}\ntool: search\n'
        f"retry: {{max: 2, base: 1ms}}\neffects: read\n{more}"
    )
    await here.make("/v1/agents", {"name": "finder", "config_yaml": text})


async def test_a_tool_is_a_step_that_costs_nothing(world: World) -> None:
    here = await world.organization()
    await here.credential(name="desk", provider="mcp", base_url=world.tools.url)
    await finder(here)
    world.tools.answers = [Said("", data={"found": "a page"})]
    run = await here.run(agent="finder")
    assert (run["status"], run["output"], run["cost_usd_micros"]) == ("completed", {"found": "a page"}, 0), run
    step = (await here.steps(run))[0]
    assert (step["provider"], step["model_name"], step["price_version"]) == ("", "", "")
    assert world.tools.calls[0]["arguments"] == {"q": "why"}
    assert {headers["authorization"] for headers in world.tools.headers} == {f"Bearer {SECRET}"}
    seen = [run, await here.steps(run), await here.facts()]
    assert SECRET not in str(seen)


async def test_a_tool_that_fails_is_tried_again_and_then_the_steps_error(world: World) -> None:
    here = await world.organization()
    await here.credential(name="desk", provider="mcp", base_url=world.tools.url)
    await finder(here)
    world.tools.answers = [Said("the secret broke", is_error=True), Said("found"), Said("x", is_error=True)]
    mended, failed = await here.run(agent="finder"), await here.run(agent="finder")
    assert (mended["status"], mended["output"]) == ("completed", {"text": "found"})
    assert [step["error_code"] for step in await here.steps(mended)] == ["tool_failed", None]
    assert (failed["status"], failed["error_code"]) == ("failed", "tool_failed")
    assert "secret" not in str([mended, failed, await here.facts()])
    assert len(world.tools.calls) == 4


async def test_a_key_of_another_server_is_not_sent(world: World) -> None:
    here = await world.organization()
    await here.credential(name="desk", provider="mcp", base_url="https://tools.example.com/mcp")
    await finder(here)
    run = await here.run(agent="finder")
    assert (run["status"], run["error_code"]) == ("failed", "unauthorized"), run
    assert world.tools.messages == []


async def test_a_service_gets_what_it_is_sent_signed_with_its_own_key(world: World) -> None:
    here, secret = await world.organization(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    await here.credential(name="desk", provider="http", base_url=world.endpoint.url, secret=secret)
    await here.make("/v1/agents", {"name": "desk", "config_yaml": world.endpoint.config(credential="desk")})
    run = await here.run(agent="desk")
    assert (run["status"], run["output"]) == ("completed", "done"), run
    headers, body = world.endpoint.seen[0]
    signed = signature(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == signed["webhook-signature"]
    assert headers["webhook-id"].startswith(f"{run['id']}:")
    assert secret not in str([run, await here.steps(run), await here.facts(), headers])


async def test_a_key_of_another_service_is_not_sent(world: World) -> None:
    here = await world.organization()
    await here.credential(name="desk", provider="http", base_url="https://agents.example.com/step")
    await here.make("/v1/agents", {"name": "desk", "config_yaml": world.endpoint.config(credential="desk")})
    run = await here.run(agent="desk")
    assert (run["status"], run["error_code"]) == ("failed", "unauthorized"), run
    assert world.endpoint.seen == []


SEARCHING = Reply(calls=(("search", {"q": "rivers"}),), usage=(20, 5))


async def searcher(here: Organization, *, limits: str = "max_tokens: 20000", effects: str = "read") -> None:
    source = f'mcp: {{url: "{here.world.tools.url}", credential: desk}}, tools: [search], effects: {effects}'
    more = f"tools: [{{{source}}}]\nlimits: {{{limits}}}\nretry: {{max: 2, base: 1ms}}\n"
    await here.credential(name="desk", provider="mcp", base_url=here.world.tools.url, secret="the-token-of-tools")
    await here.agent(more=more)


async def test_all_requests_of_an_attempt_are_booked_on_its_step(world: World) -> None:
    here = await world.organization()
    await here.price()
    await searcher(here)
    world.model.replies = [SEARCHING, Reply("In the south.", usage=(40, 6))]
    run = await here.run()
    assert (run["status"], run["output"], run["cost_usd_micros"]) == ("completed", {"text": "In the south."}, 71), run
    steps = await here.steps(run)
    assert [(step["input_tokens"], step["output_tokens"], step["cost_usd_micros"]) for step in steps] == [(60, 11, 71)]
    assert {headers["authorization"] for headers in world.tools.headers} == {"Bearer the-token-of-tools"}
    assert "the-token-of-tools" not in str([run, steps, await here.facts(), world.model.requests])


async def test_an_attempt_that_fails_after_a_tool_is_paid_and_tried_again(world: World) -> None:
    here = await world.organization()
    await here.price()
    await searcher(here)
    world.model.replies = [SEARCHING, Reply(status=503), SEARCHING, Reply("found", usage=(40, 6))]
    run = await here.run()
    paid = [(step["error_code"], step["cost_usd_micros"]) for step in await here.steps(run)]
    assert (run["status"], paid, run["cost_usd_micros"]) == ("completed", [("unavailable", 25), (None, 71)], 96), run


async def test_an_attempt_that_has_written_is_not_tried_again(world: World) -> None:
    here = await world.organization()
    await here.price()
    await searcher(here, effects="write")
    world.model.replies = [SEARCHING, Reply(status=503)]
    run = await here.run()
    steps = await here.steps(run)
    assert (run["status"], run["error_code"], len(steps)) == ("failed", "unavailable", 1), run
    assert (steps[0]["effects"], len(world.tools.calls)) == ("write", 1)


async def test_the_limit_of_an_agent_with_tools_is_held_against_caps(world: World) -> None:
    here = await world.organization()
    await here.price()
    # Whatever it is asked, 20,000 tokens may cost 20,000 micro-dollars.
    await searcher(here, limits='max_tokens: 20000, max_cost_usd: "0.019999"')
    run = await here.run()
    assert (run["status"], run["error_code"], world.model.requests) == ("failed", "max_cost", []), run
