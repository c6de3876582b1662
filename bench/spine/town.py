"""A platform of processes with one organization of 10,000 agents, and load on its list of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.chaos.platform import Platform, running_platform

from chassis.ids import new_id

ROWS, LIMIT, STRANGERS, AT_ONCE = 10_000, 20, 3, 8
PATH = f"/v1/agents?limit={LIMIT}"
KNOWN_SECONDS = 30
UNLIMITED = str(1_000_000)
UNTHROTTLED = {
    "REMIT_GATEWAY_KEY_RATE_PER_SECOND": UNLIMITED,
    "REMIT_GATEWAY_ORGANIZATION_RATE_PER_SECOND": UNLIMITED,
}
FILL = """insert into agent (id, organization_id, workspace_id, created_by, name, description, agent_type, config_yaml,
  current_version, current_version_id, created_at)
select gen_random_uuid(), $1::uuid, $2::uuid, 'bench', 'agent ' || n, 'Number ' || n, 'http',
  E'apiVersion: agent/v1\nkind: http\nhttp: {url: "https://agents.example/' || n || '", timeout: 20s}\n', '1.0.0',
  gen_random_uuid(), now() - n * interval '1 second'
from generate_series(1, $3::integer) n"""


@dataclass
class Town:
    """A running platform and its one organization."""

    platform: Platform
    session: aiohttp.ClientSession
    organization_id: str
    key: str

    @property
    def url(self) -> str:
        return self.platform.edge + PATH

    async def load(self, requests: int) -> float:
        """Seconds that so many lists through the edge took."""
        return await load(self.session, self.url, requests, {"Authorization": f"Bearer {self.key}"})


@asynccontextmanager
async def make_town(told: Mapping[str, str]) -> AsyncIterator[Town]:
    """The platform, ready, with its rows."""
    async with running_platform({**UNTHROTTLED, **told}) as platform, aiohttp.ClientSession() as session:
        organization_id, key = await _organization(platform, session)
        town = Town(platform, session, organization_id, key)
        await _fill(town)
        await town.load(AT_ONCE)
        yield town


async def load(session: aiohttp.ClientSession, url: str, requests: int, headers: Mapping[str, str]) -> float:
    """Ask so many times, AT_ONCE at a time; seconds it took. RuntimeError for any other answer than a full page."""
    left = iter(range(requests))

    async def one() -> None:
        for number in left:
            async with session.get(url, headers=headers) as answer:
                body = await answer.read()
                if answer.status != 200 or (number == 0 and len((await answer.json())["items"]) != LIMIT):
                    raise RuntimeError(f"{answer.status}: {body[:300]!r}")

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one())
    return time.perf_counter() - started


async def _organization(platform: Platform, session: aiohttp.ClientSession) -> tuple[str, str]:
    body = {"name": "bench", "slug": "bench", "plan_tier": "enterprise", "owner_email": "owner@bench.example"}
    made = await _patiently(session, platform.edge + "/v1/organizations", platform.operator_key, 201, body)
    key = str(made["api_key"])
    await _patiently(session, platform.edge + "/v1/agents", key, 200)
    return str(made["id"]), key


async def _patiently(
    session: aiohttp.ClientSession, url: str, key: str, wanted: int, body: Any = None
) -> dict[str, Any]:
    """Ask until the edge has heard of the key and execution of the organization."""
    method, deadline = "POST" if body else "GET", time.monotonic() + KNOWN_SECONDS
    while True:
        async with session.request(method, url, json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
            found: dict[str, Any] = await answer.json()
            if answer.status == wanted:
                return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"{method} {url}: {answer.status} {found}")
        await asyncio.sleep(0.2)


async def _fill(town: Town) -> None:
    """The organization's rows, and as many of each of some others."""
    query = town.platform.query
    deadline = time.monotonic() + KNOWN_SECONDS
    find = "select id from workspace where organization_id = $1::uuid"
    while not (found := await query("execution", find, town.organization_id)):
        if time.monotonic() > deadline:
            raise RuntimeError("execution has not heard of the default workspace")
        await asyncio.sleep(0.2)
    await query("execution", FILL, town.organization_id, found[0]["id"], ROWS)
    for _ in range(STRANGERS):
        await query("execution", FILL, new_id(), new_id(), ROWS)
    await query("execution", "analyze agent")
