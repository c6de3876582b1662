"""Two organizations at work through the edge: what they set up, and runs that are asked for until they are accepted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from tests.chaos.scenario import AGENTS, ORCHESTRATIONS, PlannedRun, agent_yaml, orchestration_yaml

PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 2.0
AT_ONCE = 32
"""Requests on their way: what died is asked for again by callers who behave."""
REQUEST_SECONDS = 20
KNOWN_SECONDS = 30
AGAIN = frozenset({429, 502, 503, 504})
"""What a caller may meet while something restarts; and 409 only for what is under way, not known yet or contended."""
AGAIN_CODES = frozenset({"request_in_flight", "not_yet_known", "busy"})


class RefusedError(Exception):
    """The edge answered what no caller should see."""


@dataclass
class Organization:
    """A tenant, the key of its owner, and the runs that were accepted: run id by the plan's key."""

    id: str
    key: str
    asks: str = ""
    """The key that runs are started by: whoever asks does not approve."""
    accepted: dict[str, str] = field(default_factory=dict)


@dataclass
class Traffic:
    """Requests to the edge, repeated where that is a caller's right."""

    session: aiohttp.ClientSession
    edge: str
    repeated: Counter[str] = field(default_factory=Counter)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def organization(self, operator_key: str, slug: str, agent_url: str) -> Organization:
        """Make a tenant with its agents and orchestrations."""
        await self._until_known(operator_key)
        body = {"name": slug, "slug": slug, "plan_tier": "enterprise", "owner_email": f"owner@{slug}.example"}
        made = await self.send("POST", "/v1/organizations", operator_key, body)
        key = str(made["api_key"])
        await self._until_known(key)
        ids = {}
        for name in AGENTS:
            agent = {"name": name, "config_yaml": agent_yaml(name, agent_url)}
            ids[name] = {"id": (await self.send("POST", "/v1/agents", key, agent))["id"]}
        children: dict[str, dict[str, str]] = {}
        for name in ORCHESTRATIONS:
            text = orchestration_yaml(name)
            used = {alias: found for alias, found in ids.items() if f"agent: {alias}" in text}
            used |= {alias: found for alias, found in children.items() if f"orchestration: {alias}," in text}
            content = {"name": name, "config_yaml": text, "agent_ids": used}
            made_id = (await self.send("POST", "/v1/orchestrations", key, content))["id"]
            children[name] = {"id": made_id, "kind": "orchestration"}
        asks = str((await self.send("POST", "/v1/api-keys", key, {"name": "asks", "role": "developer"}))["api_key"])
        await self._until_known(asks)
        return Organization(str(made["id"]), key, asks)

    async def start_runs(self, organizations: list[Organization], runs: Iterable[PlannedRun], pace: float) -> None:
        """Ask for these runs, one every `pace` seconds; ends when all are accepted."""
        async with asyncio.TaskGroup() as tasks:
            for run in runs:
                tasks.create_task(self._start(organizations[run.organization], run))
                await asyncio.sleep(pace)

    async def _start(self, organization: Organization, run: PlannedRun) -> None:
        body = {**run.subject, "input": run.input}
        started = await self.send("POST", "/v1/runs", organization.asks, body, {"Idempotency-Key": run.key})
        organization.accepted[run.key] = str(started["id"])

    async def _until_known(self, key: str) -> None:
        """The edge hears of a new key from identity, a moment later."""
        async with asyncio.timeout(KNOWN_SECONDS):
            while (await self.once("GET", "/v1/me", key, None, {}))[0] == 401:  # noqa: ASYNC110  (another process)
                await asyncio.sleep(PAUSE_SECONDS)

    async def send(
        self, method: str, path: str, key: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """One request, again and again while the edge is away or asks for it."""
        pause = PAUSE_SECONDS
        while True:
            try:
                async with self.room:
                    status, answer = await self.once(method, path, key, body, headers or {})
            except (aiohttp.ClientError, TimeoutError) as error:
                self.repeated[type(error).__name__] += 1
            else:
                if status < 300:
                    return answer
                code = str(answer.get("code"))
                if status not in AGAIN and code not in AGAIN_CODES:
                    raise RefusedError(f"{method} {path}: {status} {answer}")
                self.repeated[f"{status} {code}"] += 1
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    async def once(
        self, method: str, path: str, key: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One request: the status and what came with it."""
        headers = {"Authorization": f"Bearer {key}", **(headers or {})}
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with self.session.request(
            method, self.edge + path, json=body, headers=headers, timeout=timeout
        ) as answer:
            text = await answer.text()
            if "json" not in answer.content_type:
                raise RefusedError(f"{method} {path}: {answer.status} {answer.content_type} {text[:200]}")
            return answer.status, json.loads(text)
