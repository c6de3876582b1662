"""Execution with its worker, its keys and its prices, and servers of models and tools for it to call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.execution.tests.examples import PRICE, workspace_of
from services.execution.tests.http_endpoint import Endpoint, http_endpoint
from services.execution.tests.scripted_anthropic import ScriptedAnthropic, scripted_anthropic
from services.execution.tests.scripted_mcp import Said, ScriptedMcp, scripted_mcp
from services.execution.tests.scripted_openai import Reply, ScriptedOpenAI, scripted_openai

from chassis.caller import Caller
from chassis.sealing import write_keyring
from execution.main import build
from execution.settings import Settings
from remit_local.testing import Servers
from spine.testing.client import Client
from spine.testing.stage import Stage, staged
from spine.topology import declare_topology

SECRET = "sk-test-0123456789-wxyz"
# A micro-dollar per token: eleven in and seven out, as the server counts, are eighteen.
MICRO = {**PRICE, "input_usd_micros_per_million": 1_000_000, "output_usd_micros_per_million": 1_000_000}
CHAIN = """
apiVersion: orchestration/v1
pattern: sequential
limits: {max_cost_usd: "%s"}
steps:
  - {id: a, agent: small, in: {q: "${input.q}"}}
  - {id: b, agent: small, in: {q: "${steps.a.output.text}"}}
  - {id: c, agent: small, in: {q: "${steps.b.output.text}"}}
"""


@dataclass
class World:
    """Execution with its worker, its keyring and its object directory, and a model's server."""

    stage: Stage
    model: ScriptedOpenAI
    anthropic: ScriptedAnthropic
    tools: ScriptedMcp
    endpoint: Endpoint
    directory: Path

    def forget(self) -> None:
        """Nothing is scripted and nothing has been asked yet."""
        for server in (self.model, self.anthropic):
            server.replies, server.requests = [Reply()], []
        self.tools.answers, self.tools.messages = [Said()], []
        self.tools.headers, self.tools.methods = [], []
        self.endpoint.seen.clear()

    async def organization(self) -> Organization:
        caller = await self.stage.caller("org_admin")
        await workspace_of(self.stage, caller)
        return Organization(self, caller, self.stage.client(caller))


@dataclass
class Organization:
    world: World
    caller: Caller
    client: Client

    async def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.client.post(path, body)
        assert answer.status == 201, answer.body
        made: dict[str, Any] = answer.json()
        return made

    async def price(self, **fields: Any) -> dict[str, Any]:
        return await self.make("/v1/model-prices", {**MICRO, **fields})

    async def credential(self, **fields: Any) -> dict[str, Any]:
        body = {"name": "mine", "provider": "openai-compatible", "base_url": self.world.model.base_url}
        return await self.make("/v1/model-credentials", {**body, "secret": SECRET, **fields})

    async def agent(self, model: str = "", *, name: str = "small", more: str = "") -> dict[str, Any]:
        """An agent of the scripted model, which wants `q`."""
        chosen = model or f'provider: openai-compatible, name: small-1, base_url: "{self.world.model.base_url}"'
        text = (
            f"apiVersion: agent/v1\nkind: llm\nmodel: {{{chosen}, max_output_tokens: 60}}\ninstructions: Go.\n{more}"
            "input_schema: {type: object, properties: {q: {type: string}}}\n"
        )
        return await self.make("/v1/agents", {"name": name, "config_yaml": text})

    async def chain(self, max_cost_usd: str) -> None:
        aliases = {"small": {"id": (await self.agent())["id"]}}
        body = {"name": "chain", "config_yaml": CHAIN % max_cost_usd, "agent_ids": aliases}
        await self.make("/v1/orchestrations", body)

    async def run(self, text: str = "why", **what: str) -> dict[str, Any]:
        """A run's end."""
        body = {**(what or {"agent": "small"}), "input": {"q": text}}
        answer = await self.client.post("/v1/runs", body, headers={"prefer": "wait=50"})
        assert answer.status == 200, answer.body
        ended: dict[str, Any] = answer.json()
        return ended

    async def start(self, text: str = "why", **what: str) -> dict[str, Any]:
        """A run that was started."""
        answer = await self.client.post("/v1/runs", {**what, "input": {"q": text}})
        assert answer.status == 202, answer.body
        started: dict[str, Any] = answer.json()
        return started

    async def until(self, run: dict[str, Any], *statuses: str) -> dict[str, Any]:
        """The run, once it has one of these statuses."""
        async with asyncio.timeout(30):
            while (found := (await self.client.get(f"/v1/runs/{run['id']}")).json())["status"] not in statuses:  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.05)
        now: dict[str, Any] = found
        return now

    async def steps(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.get(f"/v1/runs/{run['id']}/steps")).json()["items"]
        return found

    async def facts(self, kind: str = "") -> list[dict[str, Any]]:
        told = await self.world.stage.facts(organization_id=self.caller.organization_id)
        return [fact.data for fact in told if fact.type.startswith(f"execution.{kind}")]


@asynccontextmanager
async def make_world(servers: Servers, directory: Path) -> AsyncIterator[World]:
    """All of it, running; one at a time, because one queue serves the whole broker."""
    await declare_topology(servers.amqp_url, {})
    async with (
        scripted_openai() as model,
        scripted_anthropic() as anthropic,
        scripted_mcp() as tools,
        http_endpoint() as endpoint,
    ):
        ports = model.port, anthropic.port, tools.port, endpoint.port
        values: dict[str, Any] = {
            "amqp_url": servers.amqp_url,
            "outbound_allow": tuple(f"127.0.0.1:{port}" for port in ports),
            "key_encryption_file": write_keyring(directory / "keyring.json"),
            "object_directory": directory / "objects",
        }
        async with staged(build, Settings, "execution", servers.postgres_url, **values) as made:
            workers = [asyncio.ensure_future(worker(made.running)) for worker in made.service.workers]
            yield World(made, model, anthropic, tools, endpoint, directory)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
