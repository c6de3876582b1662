"""A service put together: its routes, consumers, jobs and workers on one set of wires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.auth import Signer, TokenVerifier, Trust
from chassis.caller import Caller
from chassis.db import create_engine
from chassis.http import Door, Guard, Router, make_app
from chassis.migrate import require_head
from chassis.refusals import RefusalLog
from chassis.rules import BUNDLE_FACTS, STATUS_FACTS, RuleBook, project_bundle, project_status
from chassis.settings import ServiceSettings
from chassis.telemetry import set_up_telemetry
from chassis.uow import UnitOfWork, Units
from contracts.catalog import SERVICES
from spine.asking import Asker, ask_by, restate_by
from spine.facts import FactLoop, Handler, on
from spine.health import Probes
from spine.jobs import Job, every
from spine.outbox import Notifier, Relay
from spine.resend import Resender
from spine.server import Server, bind, make_server
from spine.sink import RawSink, SinkLoop
from spine.stream import StreamPlace
from spine.work import CommandHandler, Restate
from spine.work import Worker as CommandWorker

Worker = Callable[["Running"], Coroutine[Any, Any, None]]
"""Something that runs as long as the process does, such as the engine. It ends only when cancelled."""
VERSION = "0.1.0"


@dataclass
class Running:
    """A started service: what its jobs and workers work with."""

    service: Service
    settings: ServiceSettings
    units: Units
    rules: RuleBook
    asker: Asker
    signer: Signer
    trust: Trust
    loops: list[FactLoop | SinkLoop] = field(default_factory=list)
    """What follows other services' facts here, for health and for whoever must know how fresh a projection is."""

    def secret(self, name: str) -> str:
        """A connection's URL by its setting's name (`batch_database_url`)."""
        value = getattr(self.settings, name)
        if value is None:
            msg = f"{self.settings.service}: set REMIT_{self.settings.service.upper()}_{name.upper()}"
            raise RuntimeError(msg)
        return str(value.get_secret_value())


@dataclass
class PublicDoor:
    """A port of its own beside the service's internal one: the edge."""

    app: ASGIApp
    host: str
    port: int


@dataclass
class Service:
    """The table of contents of a service, as its `main.py` writes it."""

    name: str
    settings: ServiceSettings
    migrations: Path
    routers: Sequence[Router] = ()
    consumers: Sequence[Handler] = ()
    commands: Sequence[CommandHandler] = ()
    jobs: Sequence[Job] = ()
    workers: Sequence[Worker] = ()
    restate: Mapping[str, Restate] = field(default_factory=dict)
    sink: tuple[RawSink, str] | None = None
    """Set where one writer takes every fact of every service: audit's, and the URL of the role that writes."""
    doors: Sequence[PublicDoor] = ()
    closing: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """Called when the process ends: what the service's own clients hold open."""

    def __post_init__(self) -> None:
        self._app: ASGIApp | None = None
        self.running: Running | None = None
        self.api = make_app(f"Remit {self.name}", list(self.routers), _closed_door(), VERSION)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: the service's HTTP door, once it is started."""
        if self._app is None:
            msg = f"{self.name} is not started"
            raise RuntimeError(msg)
        await self._app(scope, receive, send)

    async def run(self, *, api: bool, work: bool, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled: the HTTP door and/or relay, consumers, jobs and workers."""
        async with AsyncExitStack() as stack:
            running = await self._start(stack, listen=api)
            async with asyncio.TaskGroup() as tasks:
                for loop in self._loops(running, stack) if work else ():
                    tasks.create_task(loop)
                servers = self._servers() if api else []
                for server, listener in servers:
                    tasks.create_task(server.serve(sockets=[listener]))
                ready()
                try:
                    await asyncio.Event().wait()
                finally:
                    for server, _ in servers:
                        server.stop()

    async def _start(self, stack: AsyncExitStack, *, listen: bool) -> Running:
        settings = self.settings
        set_up_telemetry(settings)
        engine = _door_engine(settings)
        stack.push_async_callback(engine.dispose)
        for close in self.closing:
            stack.push_async_callback(close)
        await self._require_migrated()
        notifier = Notifier(engine)
        stack.push_async_callback(notifier.close)
        units = Units(engine, settings, notifier.wake)
        trust = Trust.read(settings.trust_file) if settings.trust_file else Trust({})
        signer = Signer.read(settings.key_file) if settings.key_file else Signer.of(Ed25519PrivateKey.generate())
        asker = Asker(self.name, settings.amqp_url.get_secret_value(), signer)
        stack.push_async_callback(asker.close)
        running = Running(self, settings, units, RuleBook(engine), asker, signer, trust)
        self.running = running
        if listen or self._app is None:
            self._open_door(running, engine)
        return running

    def _open_door(self, running: Running, engine: AsyncEngine) -> None:
        settings = self.settings
        refusals = RefusalLog(running.units)
        door = Door(TokenVerifier(running.trust, self.name), running.rules, running.units, refusals)
        self.api.state.door = door
        self.api.state.running = running
        guarded = Guard(
            self.api,
            self.name,
            limit_bytes=settings.request_limit_bytes,
            timeout_seconds=settings.request_timeout_seconds,
        )

        async def check() -> dict[str, Any]:
            async with engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                await raw.fetchval("select 1")
            problems = [loop.state for loop in running.loops if loop.state["problem"]]
            return {"ready": True, "degraded": problems}

        self._app = Probes(guarded, check)

    def _servers(self) -> list[tuple[Server, Any]]:
        servers = []
        if self.settings.port:
            servers.append((make_server(self), bind(self.settings.host, self.settings.port)))
        for door in self.doors:
            servers.append((make_server(door.app), bind(door.host, door.port)))
        return servers

    def _loops(self, running: Running, stack: AsyncExitStack) -> list[Coroutine[Any, Any, None]]:
        settings = self.settings
        place = StreamPlace.parse(settings.stream_url.get_secret_value())
        relay = Relay(self.name, running.secret("relay_database_url"), place, running.signer)
        running.units.wake_relay = relay.wake
        running.loops = [*self._fact_loops(running, place), *self._sink_loop(running, place)]
        resender = Resender(running.secret("relay_database_url"))
        stack.push_async_callback(resender.close)
        commands = CommandWorker(
            self.name,
            self.commands,
            units=running.units,
            amqp_url=settings.amqp_url.get_secret_value(),
            trust=running.trust,
            resend=resender.answer,
            restate=self.restate,
        )
        return [
            relay.run(),
            commands.run(),
            *(loop.run() for loop in running.loops),
            *(job.forever(running) for job in (*self.jobs, _summarize_refusals(self))),
            *(worker(running) for worker in self.workers),
        ]

    def _fact_loops(self, running: Running, place: StreamPlace) -> list[FactLoop]:
        handlers = [*_RULES, *self.consumers]
        producers = {contract.type.partition(".")[0] for handler in handlers for contract in handler.facts}
        follow = partial(
            FactLoop,
            units=running.units,
            place=place,
            ask=ask_by(running.asker),
            ask_restate=restate_by(running.asker),
            trust=running.trust,
        )
        return [follow(self.name, producer, handlers) for producer in sorted(producers)]

    def _sink_loop(self, running: Running, place: StreamPlace) -> list[SinkLoop]:
        if self.sink is None:
            return []
        sink, url = self.sink
        ask = ask_by(running.asker)
        return [SinkLoop(self.name, SERVICES, sink, dsn=url, place=place, ask=ask, trust=running.trust)]

    async def _require_migrated(self) -> None:
        connection = await asyncpg.connect(self.settings.database_url.get_secret_value(), timeout=5)
        try:
            await require_head(connection, self.name, self.migrations)
        finally:
            await connection.close()


@asynccontextmanager
async def one_unit_of_work(settings: ServiceSettings, caller: Caller) -> AsyncIterator[UnitOfWork]:
    """A single unit of work outside of any running service: for commands such as bootstrap."""
    engine = _door_engine(settings)
    try:
        async with Units(engine, settings).begin(caller) as uow:
            yield uow
    finally:
        await engine.dispose()


def _door_engine(settings: ServiceSettings) -> AsyncEngine:
    return create_engine(
        settings.database_url.get_secret_value(),
        name=f"remit-{settings.service}",
        pool_size=settings.pool_size,
        statement_timeout=settings.statement_timeout_seconds,
        lock_timeout=settings.lock_timeout_seconds,
    )


def _summarize_refusals(service: Service) -> Job:
    async def summarize_refusals(_: Running) -> None:
        door: Door | None = service.api.state.door
        if door is not None:
            await door.refusals.summarize()

    return every(seconds=15)(summarize_refusals)


_RULES = (on(*STATUS_FACTS)(project_status), on(*BUNDLE_FACTS)(project_bundle))
"""What every service follows: which organizations may act, and by which rules."""


def _closed_door() -> Any:
    return None


def app_of(service: Service) -> FastAPI:
    """The FastAPI app inside, for its OpenAPI document and for tests over its routes."""
    return service.api
