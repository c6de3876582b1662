"""Steps that call a tool, through the whole engine: whose, with which key, what it writes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from services.execution.tests.model_stage import SECRET, Organization, World
from services.execution.tests.scripted_mcp import Said

from execution.clients.mcp_library import IDEMPOTENCY_KEY

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]
SEARCH = '{id: find, tool: {agent: desk, name: search}, in: {q: "${input.q}"}}'


@pytest.fixture
async def here(shared_world: World, anyio_backend: object) -> Organization:
    """An organization with the key of the tools' server, where nothing has been asked yet."""
    shared_world.forget()
    made = await shared_world.organization()
    await made.credential(name="desk", provider="mcp", base_url=shared_world.tools.url)
    return made


async def desk(here: Organization, more: str = "effects: read\n", name: str = "docs") -> dict[str, Any]:
    """An agent that only lends its server's tools."""
    server = f'server: {{url: "{here.world.tools.url}", credential: desk}}'
    text = f"apiVersion: agent/v1\nkind: mcp\n{server}\ntools: [search, remove]\nretry: {{max: 2, base: 1ms}}\n{more}"
    return await here.make("/v1/agents", {"name": name, "config_yaml": text})


async def sequence(here: Organization, *steps: str, more: str = "", **agents: dict[str, Any]) -> dict[str, Any]:
    listed = "".join(f"  - {step}\n" for step in steps)
    text = f"apiVersion: orchestration/v1\npattern: sequential\nsteps:\n{listed}{more}"
    ids = {alias: {"id": agent["id"]} for alias, agent in agents.items()}
    return await here.make("/v1/orchestrations", {"name": "lookup", "config_yaml": text, "agent_ids": ids})


async def test_a_step_calls_a_tool_of_an_agent(here: Organization) -> None:
    tools, agent = here.world.tools, await desk(here)
    await sequence(here, SEARCH, desk=agent)
    tools.answers = [Said("", data={"found": "a page"})]
    run = await here.run(orchestration="lookup")
    assert (run["status"], run["output"], run["cost_usd_micros"]) == ("completed", {"found": "a page"}, 0), run
    (step,) = await here.steps(run)
    assert (step["kind"], step["effects"], step["agent_id"], step["model_name"]) == ("tool", "read", agent["id"], "")
    (call,) = tools.calls
    assert (call["name"], call["arguments"]) == ("search", {"q": "why"})
    assert call["_meta"] == {IDEMPOTENCY_KEY: f"{run['id']}:find:0"}
    assert {headers["authorization"] for headers in tools.headers} == {f"Bearer {SECRET}"}
    told = [fact for fact in await here.facts("step.completed") if fact["run_id"] == run["id"]]
    assert [(fact["kind"], fact["agent_id"]) for fact in told] == [("tool", agent["id"])]
    assert SECRET not in str([run, step, await here.facts()])


async def test_what_a_tool_gives_goes_to_the_next_step_and_a_fault_is_tried_again(here: Organization) -> None:
    again = '{id: again, tool: {agent: desk, name: search}, in: {q: "${steps.find.output.text}"}}'
    await sequence(here, SEARCH, again, desk=await desk(here))
    here.world.tools.answers = [Said("broke", is_error=True), Said("rivers"), Said("the sea")]
    run = await here.run(orchestration="lookup")
    assert (run["status"], run["output"]) == ("completed", {"text": "the sea"}), run
    assert [step["error_code"] for step in await here.steps(run)] == ["tool_failed", None, None]
    assert [call["arguments"] for call in here.world.tools.calls] == [{"q": "why"}, {"q": "why"}, {"q": "rivers"}]


async def test_what_a_step_calls_must_be_there_when_it_is_saved(here: Organization) -> None:
    lent, model = await desk(here), await here.agent(more="limits: {max_tokens: 2000}\n")
    for step, agent, message in (
        ("tool: {agent: desk, name: drop}", lent, "the agent lends no tool 'drop'; it lends search, remove"),
        ("tool: {agent: desk, name: search}", model, "the agent lends no tool 'search'; it lends none"),
        ("agent: desk", lent, "the agent only lends tools, and a step names one: search, remove"),
    ):
        text = f"apiVersion: orchestration/v1\npattern: sequential\nsteps: [{{id: find, {step}}}]\n"
        body = {"name": "lookup", "config_yaml": text, "agent_ids": {"desk": {"id": agent["id"]}}}
        answer = await here.client.post("/v1/orchestrations", body)
        assert (answer.status, answer.json()["code"]) == (422, "unknown_tool"), answer.body
        assert answer.json()["errors"] == [{"loc": ["steps", "find"], "code": "unknown_tool", "message": message}]


async def test_a_tool_that_a_later_version_does_not_lend_is_not_called(here: Organization) -> None:
    lent = await desk(here)
    await sequence(here, SEARCH, desk=lent)
    server = f'server: {{url: "{here.world.tools.url}", credential: desk}}'
    body = {"config_yaml": f"apiVersion: agent/v1\nkind: mcp\n{server}\ntools: [remove]\n"}
    await here.make(f"/v1/agents/{lent['id']}/versions", body)
    run = await here.run(orchestration="lookup")
    assert (run["status"], run["error_code"], here.world.tools.messages) == ("failed", "unknown_tool", []), run
    assert run["error_message"] == "Version 1.0.1 of 'desk' lends no tool 'search'."


async def test_an_agent_that_only_lends_tools_does_nothing_by_itself(here: Organization) -> None:
    await desk(here)
    answer = await here.client.post("/v1/runs", {"agent": "docs", "input": {}})
    assert (answer.status, answer.json()["code"]) == (422, "only_tools"), answer.body


async def test_a_tool_that_writes_is_not_called_again_where_nobody_knows(here: Organization) -> None:
    await sequence(here, SEARCH, desk=await desk(here, ""))
    here.world.tools.answers = [Said(status=502), Said("found")]
    run = await here.until(await here.start(orchestration="lookup"), "waiting")
    assert run["waiting_for"] == "decision", run
    (step,) = await here.steps(run)
    assert (step["status"], step["kind"], step["effects"]) == ("needs_decision", "tool", "write")
    body = {"outcome": "completed", "output": {"text": "it was there"}}
    decided = await here.client.post(f"/v1/runs/{run['id']}/steps/{step['id']}/decide", body)
    assert decided.status == 200, decided.body
    ended = await here.until(run, "completed", "failed")
    assert (ended["status"], ended["output"]) == ("completed", {"text": "it was there"})
    assert len(here.world.tools.calls) == 1


async def test_a_tool_that_writes_is_not_called_again_whatever_it_says(here: Organization) -> None:
    await sequence(here, SEARCH, desk=await desk(here, ""))
    here.world.tools.answers = [Said("", data={"code": "card_declined"}, is_error=True), Said("found")]
    run = await here.run(orchestration="lookup")
    assert (run["status"], run["error_code"], len(here.world.tools.calls)) == ("failed", "card_declined", 1), run


async def test_a_fork_does_not_write_again(here: Organization) -> None:
    await sequence(here, SEARCH, desk=await desk(here, ""))
    run = await here.run(orchestration="lookup")
    forked = await here.client.post(f"/v1/runs/{run['id']}/fork", {"from_step": "find"})
    assert forked.status == 202, forked.body
    ended = await here.until(forked.json(), "completed", "failed")
    assert (ended["status"], ended["output"]) == ("completed", {"text": "found it"})
    assert len(here.world.tools.calls) == 1


async def test_a_tool_undoes_what_had_completed(here: Organization) -> None:
    undo = 'on_failure: {compensate: [{step: find, tool: {agent: desk, name: remove}, in: {id: "${input.q}"}}]}\n'
    lost = "{id: again, tool: {agent: desk, name: search}, in: {}, retry: {max: 1}}"
    await sequence(here, SEARCH, lost, more=undo, desk=await desk(here))
    here.world.tools.answers = [Said("found"), Said(data={"code": "gone"}, is_error=True), Said("removed")]
    run = await here.run(orchestration="lookup")
    assert (run["status"], run["error_code"]) == ("failed", "gone"), run
    assert [(call["name"], call["arguments"]) for call in here.world.tools.calls] == [
        ("search", {"q": "why"}), ("search", {}), ("remove", {"id": "why"}),
    ]  # fmt: skip
    assert [(step["node"], step["kind"]) for step in await here.steps(run)] == [
        ("find", "tool"), ("again", "tool"), ("undo_find", "tool"),
    ]  # fmt: skip
