"""The engine on a database, a queue and an HTTP agent of its own; runs are put there as the door would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import orjson
from aiohttp import web

import execution
from chassis.caller import Caller
from chassis.db import create_engine
from chassis.ids import new_id
from chassis.migrate import migrations_of
from chassis.objects import NoObjects
from chassis.outbound import OutboundClient
from chassis.rules import Rules
from chassis.uow import UnitOfWork, Units
from execution.clients.agents import AgentCall, AgentKinds, AgentResult
from execution.clients.dispatch import Dispatch, Line
from execution.clients.http_agent import HttpRunner
from execution.domain.agents import McpAgent
from execution.domain.compiler import compile_agent, compile_orchestration
from execution.domain.definitions import parse_agent, parse_orchestration
from execution.jobs.children import look_after_children
from execution.settings import Settings
from execution.usecases.engine_loop import Addresses, EngineWorker, Options
from execution.usecases.wake_ups import WakeUps
from remit_local.testing import Servers
from spine.testing.databases import Database, clone

RULES = Rules("active", 0, None, 0)
FINAL = ("completed", "failed", "cancelled", "timed_out")
BESIDE = """pattern: graph
nodes:
  - {id: slow, agent: slow}
  - {id: paid, signal: {name: payment}}
  - {id: after, agent: echo, in: {paid: "${steps.paid.output}"}}
  - {id: sum, agent: echo}
edges: [{from: paid, to: after}, {from: after, to: sum}, {from: slow, to: sum}]
"""
Behaviour = Callable[[dict[str, Any]], Awaitable[Any]]


class Agents:
    """Agents of kind http behind one real server: each path behaves as a test says, and every call is noted."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        name, question = request.match_info["name"], await request.json()
        self.calls.append((name, question, request.headers["Idempotency-Key"]))
        answer = await self.behaviours.get(name, echo)(question)
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.json_response({"output": answer, "usage": {"input_tokens": 3, "output_tokens": 4}})

    def count(self, name: str) -> int:
        return sum(1 for called, _, _ in self.calls if called == name)


async def echo(question: dict[str, Any]) -> Any:
    return {"said": question["input"], "step": question["step"]}


class Tools:
    """Agents of kind mcp, in place of their server: each tool behaves as the agent of its name."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def run(self, call: AgentCall) -> AgentResult:
        assert isinstance(call.spec, McpAgent)
        answer = await self._agents.behaviours.get(call.spec.tool or "", echo)({"input": call.input, "step": call.node})
        return AgentResult(answer)


class Slow:
    """An agent that answers when it is told to; how often it was called, and how often somebody hung up."""

    def __init__(self) -> None:
        self.calls, self.hung_up = 0, 0
        self.answer: Any = "done"
        self.may_answer = asyncio.Event()

    async def __call__(self, _question: dict[str, Any]) -> Any:
        self.calls += 1
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.hung_up += 1
            raise
        return self.answer

    async def until(self, *, calls: int = 0, hung_up: int = 0) -> None:
        async with asyncio.timeout(10):
            while self.calls < calls or self.hung_up < hung_up:  # noqa: ASYNC110  (another task counts)
                await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Place:
    organization_id: UUID
    workspace_id: UUID


@dataclass(frozen=True)
class Definition:
    kind: str
    id: UUID
    version_id: UUID
    pins: dict[str, dict[str, str]]
    limits: dict[str, Any]

    def as_pin(self) -> dict[str, str]:
        """This, as a run that uses it pins it."""
        if self.kind == "agent":
            return self.pins["self"]
        return {"orchestration_id": str(self.id), "version_id": str(self.version_id), "semver": "1.0.0"}


class Book:
    """The rules of organizations that have none of their own."""

    async def of(self, _organization_id: UUID) -> Rules:
        return RULES


@dataclass(frozen=True)
class Bench:
    """What a worker of execution works with, as far as it asks."""

    units: Units
    rules: Book


@dataclass
class EngineStage:
    database: Database
    servers: Servers
    agents: Agents
    outbound: OutboundClient
    queue: str = field(default_factory=lambda: f"engine.runs.{new_id().hex[-10:]}")
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    pools: list[Any] = field(default_factory=list)
    wake_ups: list[WakeUps] = field(default_factory=list)
    user: UUID = field(default_factory=new_id)
    """Whose the units of work are."""

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            batch_dsn=self.database.url("batch"),
            sweep_dsn=self.database.url("sweep"),
            amqp_url=self.servers.amqp_url,
            queue=self.queue,
        )

    def options(self, **changes: Any) -> Options:
        return Options(**{"agents": self.kinds_of_agents(), **changes})

    def kinds_of_agents(self) -> AgentKinds:
        return AgentKinds({"http": HttpRunner(self.outbound), "mcp": Tools(self.agents)})

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    def worker(self, **options: Any) -> asyncio.Task[None]:
        return self.spawn(EngineWorker(self.addresses, self.options(**options), self.units(pool_size=4)).run())

    def children(self) -> asyncio.Task[None]:
        """Whoever starts child runs and tells of their ends."""
        wake_ups = WakeUps(self.database.url())
        self.wake_ups.append(wake_ups)
        running: Any = Bench(self.units(pool_size=4), Book())
        return self.spawn(look_after_children(NoObjects(), wake_ups)(running))

    def units(self, pool_size: int = 1) -> Units:
        """Units of work of any organization."""
        pool = create_engine(
            self.database.url(), name="test", pool_size=pool_size, statement_timeout=20, lock_timeout=5
        )
        self.pools.append(pool)
        told = {"service": "execution", "database_url": self.database.url(), "amqp_url": "amqp://x"}
        return Units(pool, Settings.model_validate(told | {"stream_url": "x"}))

    async def place(self, **workspace: Any) -> Place:
        place = Place(new_id(), new_id())
        await self.workspace(place, **workspace)
        return place

    async def workspace(self, place: Place, *, max_concurrent_executions: int = 1000) -> None:
        await self.database.sql(
            """insert into workspace (id, organization_id, name, environment_type, status, max_agents,
            max_concurrent_executions, requires_approval, pii_allowed, encryption_required, retention_days)
            values ($1, $2, 'main', 'development', 'active', 50, $3, false, true, false, 30)""",
            place.workspace_id, place.organization_id, max_concurrent_executions,
        )  # fmt: skip

    async def agent(self, place: Place, name: str, more: str = "", *, timeout: str = "20s") -> Definition:
        url = f"http://127.0.0.1:{self.agents.port}/{name}"
        seconds = f", timeout: {timeout}" if timeout else ""
        return await self._agent(place, name, f'kind: http\nhttp: {{url: "{url}"{seconds}}}\n{more}')

    async def tool(self, place: Place, name: str, more: str = "") -> Definition:
        """An agent that only lends the tool of this name."""
        server = f'server: {{url: "http://127.0.0.1:{self.agents.port}/mcp"}}'
        return await self._agent(place, name, f"kind: mcp\n{server}\ntools: [{name}]\n{more}")

    async def _agent(self, place: Place, name: str, text: str) -> Definition:
        text = f"apiVersion: agent/v1\n{text}"
        definition = parse_agent(text)
        agent_id, version_id = new_id(), new_id()
        await self.database.sql(
            """insert into agent (id, organization_id, workspace_id, created_by, name, agent_type, config_yaml,
            current_version, current_version_id) values ($1, $2, $3, 'test', $4, $5, $6, '1.0.0', $7)""",
            agent_id, place.organization_id, place.workspace_id, f"{name}-{agent_id}", definition.config["kind"], text,
            version_id,
        )  # fmt: skip
        await self.database.sql(
            """insert into agent_version (id, organization_id, agent_id, workspace_id, semver, digest, config_yaml,
            config, graph, created_by, is_current) values ($1, $2, $3, $4, '1.0.0', $5, $6, $7, $8, 'test', true)""",
            version_id, place.organization_id, agent_id, place.workspace_id, definition.digest, text,
            orjson.dumps(definition.config).decode(), orjson.dumps(compile_agent(definition).to_json()).decode(),
        )  # fmt: skip
        pin = {"agent_id": str(agent_id), "version_id": str(version_id), "semver": "1.0.0"}
        return Definition("agent", agent_id, version_id, {"self": pin}, {})

    async def orchestration(self, place: Place, text: str, **agents: Definition) -> Definition:
        children = [alias for alias, known in agents.items() if known.kind == "orchestration"]
        aliases = [alias for alias in agents if alias not in children]
        text = f"apiVersion: orchestration/v1\n{text}"
        definition = parse_orchestration(text, aliases=aliases, orchestrations=children)
        agent_ids = {
            alias: {"id": str(known.id), "version": "current"}
            | ({"kind": "orchestration"} if alias in children else {})
            for alias, known in agents.items()
        }
        orchestration_id, version_id = new_id(), new_id()
        await self.database.sql(
            """insert into orchestration (id, organization_id, workspace_id, created_by, name, pattern, config_yaml,
            agent_ids, current_version, current_version_id) values ($1, $2, $3, 'test', $4, $5, $6, '{}', '1.0.0', $7)""",
            orchestration_id, place.organization_id, place.workspace_id, str(orchestration_id),
            definition.config["pattern"], text, version_id,
        )  # fmt: skip
        await self.database.sql(
            """insert into orchestration_version (id, organization_id, orchestration_id, workspace_id, semver, digest,
            config_yaml, config, graph, agent_ids, created_by, is_current)
            values ($1, $2, $3, $4, '1.0.0', $5, $6, $7, $8, $9, 'test', true)""",
            version_id, place.organization_id, orchestration_id, place.workspace_id, definition.digest, text,
            orjson.dumps(definition.config).decode(),
            orjson.dumps(compile_orchestration(definition).to_json()).decode(), orjson.dumps(agent_ids).decode(),
        )  # fmt: skip
        pins = {alias: known.as_pin() for alias, known in agents.items()}
        limits = definition.spec.limits.limits()
        known = {name: getattr(limits, name) for name in limits.__dataclass_fields__}
        return Definition("orchestration", orchestration_id, version_id, pins, known)

    async def sequence(self, place: Place, steps: int, more: str = "") -> Definition:
        """Echo agents, one after the other."""
        agent = await self.agent(place, "echo")
        listed = "".join(f"  - {{id: s{number}, agent: echo}}\n" for number in range(1, steps + 1))
        return await self.orchestration(place, f"pattern: sequential\nsteps:\n{listed}{more}", echo=agent)

    async def queue_run(self, place: Place, what: Definition, value: Any = None, **columns: Any) -> UUID:
        """A run as the door leaves it."""
        run_id = new_id()
        row: dict[str, Any] = {
            "retention_class": 30, "id": run_id, "organization_id": place.organization_id,
            "workspace_id": place.workspace_id, "execution_type": what.kind, f"{what.kind}_id": what.id,
            "version_id": what.version_id, "semver": "1.0.0", "config_digest": "sha256:0",
            "pins": orjson.dumps(what.pins).decode(), "limits": orjson.dumps(what.limits).decode(),
            "caller": orjson.dumps(self.caller(place).to_json()).decode(), "created_by": "owner-1", "triggered_by": "u",
            "trigger_type": "api", "decision_id": new_id(), "decision": "{}", "root_run_id": run_id,
            "input": orjson.dumps(value), **columns,
        }  # fmt: skip
        slots = ", ".join(f"${at}" for at in range(1, len(row) + 1))
        await self.database.sql(f"insert into run ({', '.join(row)}, queued_at) values ({slots}, now())", *row.values())
        return run_id

    async def let_in(self, *run_ids: UUID) -> None:
        """Let runs in as admission does, without their messages."""
        marked = "update run set dispatched_at = now() where id = any($1) and dispatched_at is null"
        await self.database.sql(marked, list(run_ids))

    async def dispatch(self, place: Place, *run_ids: UUID, token: int = 0) -> None:
        """Put messages on the queue as admission does."""
        await self.let_in(*run_ids)
        line = await Line.open(self.servers.amqp_url, queue=self.queue)
        assert all(await line.publish([Dispatch(place.organization_id, 30, run_id, token) for run_id in run_ids]))
        await line.close()

    async def run(self, run_id: UUID) -> dict[str, Any]:
        rows = await self.database.sql("select * from run where id = $1", run_id)
        run = dict(rows[0])
        run["output"] = orjson.loads(run["output"]) if run["output"] else None
        return run

    async def ended(self, run_id: UUID, seconds: float = 30) -> dict[str, Any]:
        return await self.until(run_id, lambda run: run["status"] in FINAL, seconds)

    async def until(self, run_id: UUID, check: Callable[[dict[str, Any]], bool], seconds: float = 30) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while not check(run := await self.run(run_id)):  # noqa: ASYNC110  (the row is in a database)
                await asyncio.sleep(0.02)
        return run

    async def until_waiting_for_locks(self, count: int) -> None:
        """Wait until so many statements of this database wait for a lock."""
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(10):
            while (await self.database.sql(waiting))[0][0] < count:  # noqa: ASYNC110  (the state is the server's)
                await asyncio.sleep(0.02)

    async def steps(self, run_id: UUID) -> list[dict[str, Any]]:
        rows = await self.database.sql("select * from step where run_id = $1 order by step_number, attempt", run_id)
        return [dict(row) for row in rows]

    async def facts(self, run_id: UUID) -> list[dict[str, Any]]:
        rows = await self.database.sql("select body from outbox order by pos")
        bodies = [orjson.loads(row["body"]) for row in rows]
        return [body for body in bodies if body["data"].get("run_id") == str(run_id)]

    async def kinds(self, run_id: UUID) -> list[str]:
        return [fact["type"].removeprefix("execution.").removesuffix(".v1") for fact in await self.facts(run_id)]

    @asynccontextmanager
    async def unit(self, place: Place) -> AsyncIterator[UnitOfWork]:
        """A unit of work of the place's organization, as a door or a consumer opens it."""
        async with self.units().begin(self.caller(place)) as uow:
            yield uow

    def caller(self, place: Place) -> Caller:
        """Whose the runs and the units of work are."""
        roles = frozenset(("org_admin",))
        return Caller(place.organization_id, "user", str(self.user), user_id=self.user, roles=roles)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for wake_ups in self.wake_ups:
            await wake_ups.close()
        for pool in self.pools:
            await pool.dispose()
        connection = await aio_pika.connect(self.servers.amqp_url)
        async with connection:
            await (await connection.channel()).queue_delete(self.queue)


@asynccontextmanager
async def make_engine_stage(servers: Servers) -> AsyncIterator[EngineStage]:
    agents = Agents()
    app = web.Application()
    app.router.add_post("/{name}", agents.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    agents.port = runner.addresses[0][1]
    outbound = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    try:
        async with clone(servers.postgres_url, "execution", migrations_of(execution)) as database:
            stage = EngineStage(database, servers, agents, outbound)
            try:
                yield stage
            finally:
                await stage.close()
    finally:
        await outbound.close()
        await runner.cleanup()


def worker_process(stage: EngineStage) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker that can be killed like a machine that loses power."""
    return _process(stage, "engine_worker.py")


def admission_process(stage: EngineStage) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """An admission that can be killed in the same way."""
    return _process(stage, "engine_admission.py")


@contextmanager
def _process(stage: EngineStage, name: str) -> Iterator[subprocess.Popen[bytes]]:
    script = Path(__file__).with_name(name)
    process = subprocess.Popen([sys.executable, str(script), orjson.dumps(asdict(stage.addresses)).decode()])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
