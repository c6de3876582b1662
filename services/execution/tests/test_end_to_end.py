"""From the door to the end and back: a run is started over HTTP, the engine runs it, and everything is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from services.execution.tests.examples import an_undecided_step, workspace_of

from execution.main import build
from execution.settings import Settings
from remit_local.testing import Servers
from spine.testing.stage import Stage, staged

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]
AGENT = """
apiVersion: agent/v1
kind: http
http: {url: "%s", timeout: 10s}
"""
PAIR = """
apiVersion: orchestration/v1
pattern: sequential
steps:
  - {id: draft, agent: a, in: {topic: "${input.topic}"}}
  - {id: edit, agent: a, in: {text: "${steps.draft.output.said}"}}
"""
LEVELS = {
    "bottom": "branches: [{id: own, agent: a, in: {level: bottom}}]\nlimits: {max_steps: 3}\n",
    "middle": "branches: [{id: own, agent: a, in: {level: middle}}, {id: child, orchestration: bottom}]\n"
    "limits: {max_steps: 9}\n",
    "top": "branches: [{id: own, agent: a, in: {level: top}}, {id: child, orchestration: middle}]\n",
}


class HttpAgent:
    """An agent of somebody: says what it was asked, after `pause` seconds."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.pause = 0.0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append(body)
        await asyncio.sleep(self.pause)
        said = ", ".join(str(value) for value in body["input"].values())
        return web.json_response({"output": {"said": f"<{said}>"}, "usage": {"input_tokens": 3, "output_tokens": 2}})


@pytest.fixture(scope="module")
async def agent(anyio_backend: object) -> AsyncIterator[HttpAgent]:
    made = HttpAgent()
    app = web.Application()
    app.router.add_post("/step", made.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)  # some calls are meant to be left
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/step"
    yield made
    await runner.cleanup()


@pytest.fixture(scope="module")
async def stage(servers: Servers, agent: HttpAgent, anyio_backend: object) -> AsyncIterator[Stage]:
    allow = (agent.url.split("/")[2],)
    values: dict[str, Any] = {"amqp_url": servers.amqp_url, "outbound_allow": allow}
    async with staged(build, Settings, "execution", servers.postgres_url, **values) as made:
        workers = [asyncio.ensure_future(worker(made.running)) for worker in made.service.workers]
        yield made
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def test_a_run_goes_from_the_door_to_its_end(stage: Stage, agent: HttpAgent) -> None:
    caller = await stage.caller("developer")
    await workspace_of(stage, caller)
    client = stage.client(caller)
    made = await client.post("/v1/agents", {"name": "a", "config_yaml": AGENT % agent.url})
    aliases = {"a": {"id": made.json()["id"]}}
    await client.post("/v1/orchestrations", {"name": "pair", "config_yaml": PAIR, "agent_ids": aliases})
    body = {"orchestration": "pair", "input": {"topic": "rivers"}}
    answer = await client.post("/v1/runs", body, headers={"prefer": "wait=30"})
    run = answer.json()
    assert (answer.status, run["status"], run["output"]) == (200, "completed", {"said": "<<rivers>>"}), run
    steps = (await client.get(f"/v1/runs/{run['id']}/steps")).json()["items"]
    assert [(step["node"], step["status"], step["output"]) for step in steps] == [
        ("draft", "completed", {"said": "<rivers>"}),
        ("edit", "completed", {"said": "<<rivers>>"}),
    ]
    assert run["input_tokens"] == sum(step["input_tokens"] for step in steps)
    told = await stage.facts(organization_id=caller.organization_id)
    assert [fact.type.removeprefix("execution.") for fact in told if fact.data.get("run_id") == run["id"]] == [
        "run.queued.v1", "decision.recorded.v1", "run.started.v1", "step.completed.v1", "step.completed.v1",
        "run.completed.v1",
    ]  # fmt: skip
    events = (await client.get(f"/v1/runs/{run['id']}/events")).body.decode()
    assert [line[7:] for line in events.splitlines() if line.startswith("event: ")] == [
        "RUN_STARTED", "STEP_FINISHED", "STEP_FINISHED", "RUN_FINISHED",
    ]  # fmt: skip


async def test_cancelling_reaches_the_call_in_flight(stage: Stage, agent: HttpAgent) -> None:
    caller = await stage.caller("operator")
    await workspace_of(stage, caller)
    owner = stage.client(await stage.caller("org_owner", caller.organization_id))
    await owner.post("/v1/agents", {"name": "a", "config_yaml": AGENT % agent.url})
    client, agent.pause, before = stage.client(caller), 30.0, len(agent.calls)
    run = (await client.post("/v1/runs", {"agent": "a", "input": {"topic": "x"}})).json()
    for _ in range(500):
        if len(agent.calls) > before:
            break
        await asyncio.sleep(0.02)
    assert (await client.post(f"/v1/runs/{run['id']}/cancel", {"reason": "enough"})).json()["status"] == "cancelling"
    ended = await client.get(f"/v1/runs/{run['id']}", headers={"prefer": "wait=10"})
    agent.pause = 0.0
    assert (ended.json()["status"], ended.json()["stop_reason"]) == ("cancelled", "cancelled")


async def test_cancelling_ends_a_whole_tree_and_its_stream(stage: Stage, agent: HttpAgent) -> None:
    caller, before = await stage.caller("org_owner"), len(agent.calls)
    await workspace_of(stage, caller)
    client = stage.client(caller)
    made = (await client.post("/v1/agents", {"name": "a", "config_yaml": AGENT % agent.url})).json()
    ids: dict[str, dict[str, str]] = {"a": {"id": made["id"]}}
    for name, branches in LEVELS.items():
        text = f"apiVersion: orchestration/v1\npattern: parallel\n{branches}"
        used = {alias: one for alias, one in ids.items() if f": {alias}" in branches}
        answer = await client.post("/v1/orchestrations", {"name": name, "config_yaml": text, "agent_ids": used})
        assert answer.status == 201, answer.body
        ids[name] = {"id": answer.json()["id"], "kind": "orchestration"}
    agent.pause = 30.0
    try:
        path = f"/v1/runs/{(await client.post('/v1/runs', {'orchestration': 'top', 'input': {}})).json()['id']}"
        stream = asyncio.create_task(client.get(f"{path}/events"))
        async with asyncio.timeout(20):
            while {call["input"]["level"] for call in agent.calls[before:]} != LEVELS.keys():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not stream.done()
        began = time.monotonic()
        assert (await client.post(f"{path}/cancel", {"reason": "enough"})).status == 200
        assert (await client.get(path)).json()["status"] in ("cancelling", "cancelled")
        assert time.monotonic() - began < 1
        events = (await stream).body.decode()
        tree = "select status, stop_reason from run where root_run_id = $1"
        while await stage.database.sql(tree, UUID(path[9:])) != [("cancelled", "cancelled")] * 3:
            assert time.monotonic() - began < 5
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < 5  # about 1 s where nothing else is done
        assert [line[7:] for line in events.splitlines() if line.startswith("event: ")][-1] == "RUN_ERROR"
    finally:
        agent.pause = 0.0


async def test_a_run_goes_on_when_a_person_has_decided(stage: Stage, agent: HttpAgent) -> None:
    caller, before = await stage.caller("operator"), len(agent.calls)
    await workspace_of(stage, caller)
    owner, client = stage.client(await stage.caller("org_owner", caller.organization_id)), stage.client(caller)
    made = await owner.post("/v1/agents", {"name": "a", "config_yaml": AGENT % agent.url})
    body = {"name": "pair", "config_yaml": PAIR, "agent_ids": {"a": {"id": made.json()["id"]}}}
    await owner.post("/v1/orchestrations", body)
    places = "update workspace set max_concurrent_executions = $2 where organization_id = $1"
    await stage.database.sql(places, caller.organization_id, 0)  # nobody works on it before it waits
    run = (await client.post("/v1/runs", {"orchestration": "pair", "input": {"topic": "x"}})).json()
    step_id = await an_undecided_step(stage, run["id"], "draft")
    waits = "update run set waiting_since = now() - interval '1 h', started_at = now() - interval '1 h' where id = $1"
    await stage.database.sql(waits, UUID(run["id"]))
    await stage.database.sql(places, caller.organization_id, 5)
    decision = {"outcome": "completed", "output": {"said": "by hand"}, "reason": "seen in the ledger"}
    decided = await client.post(f"/v1/runs/{run['id']}/steps/{step_id}/decide", decision)
    assert (decided.status, decided.json()["status"]) == (200, "completed"), decided.body
    ended = (await client.get(f"/v1/runs/{run['id']}", headers={"prefer": "wait=20"})).json()
    assert (ended["status"], ended["output"], ended["step_count"]) == ("completed", {"said": "<by hand>"}, 2)
    assert [call["step"] for call in agent.calls[before:]] == ["edit"]
    waited = await stage.database.value("select waited > interval '59 m' from run where id = $1", UUID(run["id"]))
    assert waited  # which is no part of the minute that the run may take
    again = await client.post(f"/v1/runs/{run['id']}/steps/{step_id}/decide", decision)
    assert (again.status, again.json()["code"]) == (409, "not_undecided")


async def test_a_write_is_tried_again_where_a_person_says_so(stage: Stage, agent: HttpAgent) -> None:
    caller, before = await stage.caller("org_owner"), len(agent.calls)
    await workspace_of(stage, caller)
    client = stage.client(caller)
    await client.post("/v1/agents", {"name": "a", "config_yaml": AGENT % agent.url})
    places = "update workspace set max_concurrent_executions = $2 where organization_id = $1"
    await stage.database.sql(places, caller.organization_id, 0)
    run = (await client.post("/v1/runs", {"agent": "a", "input": {"topic": "x"}})).json()
    step_id = await an_undecided_step(stage, run["id"])
    await stage.database.sql(places, caller.organization_id, 5)
    path = f"/v1/runs/{run['id']}/steps/{step_id}/decide"
    assert (await client.post(path, {"outcome": "retry", "output": 1})).status == 422
    assert (await client.post(path, {"outcome": "retry"})).json()["will_retry"] is True
    ended = (await client.get(f"/v1/runs/{run['id']}", headers={"prefer": "wait=20"})).json()
    steps = (await client.get(f"/v1/runs/{run['id']}/steps")).json()["items"]
    assert [(step["attempt"], step["status"]) for step in steps] == [(1, "failed"), (2, "completed")]
    assert (ended["status"], ended["step_count"], len(agent.calls) - before) == ("completed", 2, 1)
