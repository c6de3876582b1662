"""A platform of processes whose workers know the benchmark's function; runs of all sizes, started and waited for."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from bench.spine.machine import family, named, processor_seconds
from bench.spine.town import UNTHROTTLED
from tests.chaos.platform import Platform, running_platform

from chassis.migration import role
from contracts.catalog import SERVICES

SLOTS, BULK, BULKS_AT_ONCE = 64, 100, 4
KNOWN_SECONDS, ROUND_SECONDS, LOOK_SECONDS = 30, 300, 0.01
WIDTH = 50
UNLIMITED = 100_000
PACKAGE = "remit-bench-functions"
AGENT = "apiVersion: agent/v1\nkind: python\npython: {function: bench_step}\n"
_OPEN = "select exists (select from run where status in ('scheduled', 'queued', 'running', 'waiting', 'cancelling'))"
_SENT = "select sequence from fact_head where not exists (select from outbox)"
_READ = "select max(sequence) from fact_offset where stream like '%facts.execution'"


@contextmanager
def functions_installed() -> Iterator[str]:
    """A folder for PYTHONPATH in which the function is a package that registers it."""
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        shutil.copy(Path(__file__).with_name("functions.py"), Path(folder) / "remit_bench_functions.py")
        about = Path(folder) / "remit_bench_functions-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[remit.agents]\nbench_step = remit_bench_functions:step\n")
        yield folder


@dataclass
class Tenant:
    """One organization that may start what it likes, and what it has to start."""

    id: str
    key: str
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    """By case (`5`, `wide`): the part of a run's body that names it."""


@dataclass
class House:
    """The running platform, and look-outs on its databases."""

    platform: Platform
    session: aiohttp.ClientSession
    databases: dict[str, asyncpg.Connection]
    tenants: list[Tenant] = field(default_factory=list)

    async def ask(self, method: str, path: str, key: str, body: Any = None, **headers: str) -> Any:
        """One request to the edge; RuntimeError for what is no success."""
        sent = {"Authorization": f"Bearer {key}", **headers}
        async with self.session.request(method, self.platform.edge + path, json=body, headers=sent) as answer:
            found = await answer.json()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {str(found)[:500]}")
            return found

    async def start_runs(self, tenant: Tenant, case: str, count: int, **input: Any) -> list[str]:
        """Start so many runs by the public bulk route, 100 a request, a few requests at once; gives their ids."""
        item = {**tenant.subjects[case], "input": {"of": "bench", **input}}
        sizes = iter([BULK] * (count // BULK) + ([count % BULK] if count % BULK else []))
        ids: list[str] = []

        async def lane() -> None:
            for size in sizes:
                body = {"items": [item] * size}
                answer = await self.ask("POST", "/v1/runs/bulk-create", tenant.key, body)
                if answer["refused"]:
                    raise RuntimeError(f"refused: {answer['results'][0]}")
                ids.extend(one["item"]["id"] for one in answer["results"])

        await asyncio.gather(*(lane() for _ in range(BULKS_AT_ONCE)))
        return ids

    async def drained(self) -> None:
        """Wait until no run is open, and audit and billing have taken every fact."""
        deadline = time.monotonic() + ROUND_SECONDS
        while await self.databases["execution"].fetchval(_OPEN):
            await _again(deadline, "all runs ended")
        while (last := await self.databases["execution"].fetchval(_SENT)) is None:
            await _again(deadline, "all facts sent")
        for reader in ("audit", "billing"):
            while (await self.databases[reader].fetchval(_READ) or 0) < last:
                await _again(deadline, f"all facts read by {reader}")

    async def check(self) -> None:
        """SystemExit unless every run completed, every step is booked once, and audit has all facts."""
        execution, audit = self.databases["execution"], self.databases["audit"]
        failed = await execution.fetchval("select count(*) from run where status <> 'completed'")
        steps = await execution.fetchval("select count(*) from step")
        booked = await self.databases["billing"].fetchval("select count(*) from usage_event")
        facts = await execution.fetchval("select count(*) from fact_log")
        audited = await audit.fetchval("select count(*) from entry where producer = 'execution'")
        if failed or steps != booked or facts != audited:
            raise SystemExit(f"{failed} failed; {steps} steps, {booked} booked; {facts} facts, {audited} audited")

    async def count_statements(self) -> None:
        """Have the server count statements, for which it is killed and comes up again."""
        pid = self._pid("postgres")
        await self.databases["execution"].execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
        os.kill(pid, signal.SIGKILL)
        await self.platform.until_replaced("postgres", pid)
        for name, connection in self.databases.items():
            connection.terminate()
            self.databases[name] = await look_at(self.platform, name)
        await self.databases["execution"].execute("create extension if not exists pg_stat_statements")

    def groups(self) -> dict[str, list[int]]:
        """Whose processor time counts: every process of the platform, by part."""
        services = {f"{name}.{kind}": [self._pid(f"{name}.{kind}")] for name in SERVICES for kind in ("api", "work")}
        servers = {"postgres": named(family(self._pid("postgres")), "postgres")}
        broker = family(self._pid("rabbitmq"))
        return {**services, **servers, "rabbitmq": broker}

    def processor_seconds(self) -> dict[str, float]:
        """What each part has used so far."""
        return {name: processor_seconds(pids) for name, pids in self.groups().items()}

    def _pid(self, name: str) -> int:
        pid = self.platform.pid_of(name)
        if pid is None:
            raise RuntimeError(f"{name} is not running")
        return pid


@asynccontextmanager
async def make_house(*, tenants: int = 1, slots: int = SLOTS) -> AsyncIterator[House]:
    """A platform with so many organizations, each with everything to run."""
    with functions_installed() as functions:
        path = os.pathsep.join(filter(None, (functions, os.environ.get("PYTHONPATH"))))
        told = {**UNTHROTTLED, "REMIT_EXECUTION_SLOTS": str(slots), "PYTHONPATH": path}
        async with running_platform(told) as platform, aiohttp.ClientSession() as session:
            databases = {name: await look_at(platform, name) for name in ("execution", "audit", "billing")}
            house = House(platform, session, databases)
            for number in range(tenants):
                house.tenants.append(await _tenant(house, number))
            yield house
            for connection in databases.values():
                await connection.close()


async def look_at(platform: Platform, service: str) -> asyncpg.Connection:
    url = platform.installation.postgres.superuser_url.rpartition("/")[0] + f"/{role(service)}"
    return await asyncpg.connect(url, timeout=5, command_timeout=60)


async def _tenant(house: House, number: int) -> Tenant:
    body = {
        "name": f"bench {number}", "slug": f"bench-{number}", "plan_tier": "enterprise",
        "owner_email": f"owner{number}@bench.example",
    }  # fmt: skip
    made = await _patiently(house, house.platform.operator_key, "POST", "/v1/organizations", body)
    tenant = Tenant(made["id"], made["api_key"])
    await _patiently(house, tenant.key, "GET", "/v1/workspaces")
    workspace = await house.ask("GET", f"/v1/workspaces/{made['workspace_id']}", tenant.key)
    limits = {"max_concurrent_executions": UNLIMITED}
    path = f"/v1/workspaces/{workspace['id']}/limits"
    await house.ask("PATCH", path, tenant.key, limits, **{"If-Match": f'"{workspace["version"]}"'})
    agent = await _patiently(house, tenant.key, "POST", "/v1/agents", {"name": "step", "config_yaml": AGENT})
    tenant.subjects["1"] = {"agent": agent["id"]}
    ids = {"step": {"id": agent["id"], "version": "current"}}
    flows = {"5": _sequence(5), "20": _sequence(20), "wide": _parallel(WIDTH)}
    for case, text in flows.items():
        flow = {"name": f"flow {case}", "config_yaml": text, "agent_ids": ids}
        made = await house.ask("POST", "/v1/orchestrations", tenant.key, flow)
        tenant.subjects[case] = {"orchestration": made["id"]}
    known = "select max_concurrent_executions = $2 from workspace where organization_id = $1::uuid"
    deadline = time.monotonic() + KNOWN_SECONDS
    while not await house.databases["execution"].fetchval(known, tenant.id, UNLIMITED):
        await _again(deadline, "the workspace's limits")
    return tenant


def _sequence(steps: int) -> str:
    lines = [f"  - {{id: s{n}, agent: step, in: {{of: '${{input.of}}'}}}}" for n in range(steps)]
    head = f"apiVersion: orchestration/v1\npattern: sequential\nlimits: {{max_steps: {steps}}}\nsteps:\n"
    return head + "\n".join(lines)


def _parallel(width: int) -> str:
    lines = [f"  - {{id: b{n}, agent: step, in: {{of: '${{input.of}}'}}}}" for n in range(width)]
    head = f"apiVersion: orchestration/v1\npattern: parallel\nlimits: {{max_steps: {width + 2}}}\n"
    return head + "join: {mode: all, on_branch_error: fail}\nbranches:\n" + "\n".join(lines)


async def _patiently(house: House, key: str, method: str, path: str, body: Any = None) -> Any:
    """Ask until the edge has heard of the key and the service of the organization."""
    deadline = time.monotonic() + KNOWN_SECONDS
    while True:
        try:
            return await house.ask(method, path, key, body)
        except RuntimeError as error:
            await _again(deadline, str(error))


async def _again(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"not in time: {what}")
    await asyncio.sleep(LOOK_SECONDS)
