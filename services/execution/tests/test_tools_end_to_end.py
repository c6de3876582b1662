"""Tools through the whole engine: keys, errors, retries; the tools' server is one over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from services.execution.tests.model_stage import SECRET, Organization, World, make_world
from services.execution.tests.scripted_mcp import Said

from remit_local.testing import Servers

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]


@pytest.fixture(scope="module")
async def shared(
    servers: Servers, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with make_world(servers, tmp_path_factory.mktemp("models")) as made:
        yield made


@pytest.fixture
async def world(shared: World, anyio_backend: object) -> World:
    """The same for all, but with nothing asked yet."""
    shared.forget()
    return shared


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
