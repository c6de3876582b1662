"""A platform with two organizations in it, and how a test talks to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import asyncpg
from prometheus_client.parser import text_string_to_metric_families
from tests.chaos.platform import Platform
from tests.chaos.traffic import Organization, Traffic

from chassis.migration import role

T = TypeVar("T")
LOOK_SECONDS = 0.1
UNTIL_SECONDS = 30


@dataclass(frozen=True)
class Reply:
    """An answer of the edge, as it came."""

    status: int
    body: bytes
    json: Any
    headers: dict[str, str]


@dataclass
class Town:
    """Who lives here: a platform, and two organizations that must not know of each other."""

    platform: Platform
    traffic: Traffic
    north: Organization
    south: Organization
    told: Mapping[str, str]
    """What the platform's operator has set."""
    execution_port: int
    """One service's own door, for what the edge does not show: its counters and its health."""

    async def ask(
        self, method: str, path: str, key: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request to the edge, once; without a key for the empty one."""
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        timeout = aiohttp.ClientTimeout(total=30)
        async with self.traffic.session.request(
            method, self.platform.edge + path, json=body, headers=headers, timeout=timeout
        ) as answer:
            read = await answer.read()
            is_json = answer.content_type.endswith("json")
            return Reply(answer.status, read, await answer.json() if is_json else None, dict(answer.headers))

    async def execute(self, service: str, statements: str) -> None:
        """Change a service's database past all its rules, as a fault would: any number of statements."""
        url = self.platform.installation.postgres.superuser_url.rpartition("/")[0] + f"/{role(service)}"
        connection = await asyncpg.connect(url, timeout=5, command_timeout=30)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def health(self) -> dict[str, Any]:
        """What execution says of itself: whether it can serve, and what is degraded."""
        async with self.traffic.session.get(f"http://127.0.0.1:{self.execution_port}/readyz") as answer:
            return dict(await answer.json())

    async def counted(self, metric: str, **labels: str) -> float:
        """The value of a counter of the platform's process; 0 before its first count."""
        async with self.traffic.session.get(f"http://127.0.0.1:{self.execution_port}/metrics") as answer:
            for family in text_string_to_metric_families(await answer.text()):
                for sample in family.samples:
                    if sample.name == metric and labels.items() <= sample.labels.items():
                        return float(sample.value)
        return 0.0

    async def run(self, organization: Organization, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Start a run of the agent that does one step, and wait for its end."""
        body = {"agent": "worker", "input": {"topic": "rivers"}}
        reply = await self.ask("POST", "/v1/runs", organization.key, body, {"Prefer": "wait=30", **(headers or {})})
        assert reply.status == 200, reply.body
        assert reply.json["status"] == "completed", reply.body
        return dict(reply.json)

    async def workspace(self, organization: Organization, name: str) -> str:
        """Make a workspace; gives its id."""
        body = {"name": name, "environment_type": "development"}
        return str((await self.traffic.send("POST", "/v1/workspaces", organization.key, body))["id"])


async def until(look: Callable[[], Awaitable[T]], what: str, seconds: float = UNTIL_SECONDS) -> T:
    """Look again and again until there is something to see; AssertionError with what was wanted, when it never is."""
    deadline = time.monotonic() + seconds
    while not (seen := await look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(LOOK_SECONDS)
    return seen
