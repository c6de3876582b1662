"""A service put together: its routes, consumers, jobs and workers on one set of wires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.auth import Signer, TokenVerifier, Trust
from chassis.db import create_engine
from chassis.facts import Consumers, FactLoop, RawSink, SinkLoop, on
from chassis.health import Probes
from chassis.http import Door, Guard, Router, make_app
from chassis.jobs import Job, every
from chassis.migrate import require_head
from chassis.outbox import Notifier, Relay
from chassis.refusals import RefusalLog
from chassis.rules import BUNDLE_FACTS, STATUS_FACTS, RuleBook, project_bundle, project_status
from chassis.server import Server, bind, make_server
from chassis.settings import ServiceSettings
from chassis.stream import StreamPlace
from chassis.telemetry import logger, set_up_telemetry
from chassis.uow import UnitOfWork, Units
from chassis.work import Asker, CommandHandler, serve_commands

Worker = Callable[["Running"], Awaitable[None]]
"""Something that runs as long as the process does, such as the engine. It ends only when cancelled."""
Restate = Callable[[UnitOfWork, UUID | None], Awaitable[int]]
VERSION = "0.1.0"


@dataclass
class Running:
    """A started service: what its jobs and workers work with."""

    service: Service
    settings: ServiceSettings
    units: Units
    rules: RuleBook
    asker: Asker
    signer: Signer | None
    trust: Trust

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
    consumers: Sequence[Consumers] = ()
    commands: Sequence[CommandHandler] = ()
    jobs: Sequence[Job] = ()
    workers: Sequence[Worker] = ()
    restate: Mapping[str, Restate] = field(default_factory=dict)
    sink: RawSink | None = None
    """Set where one writer takes every fact of every service: audit."""
    doors: Sequence[PublicDoor] = ()

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
                if work:
                    for loop in self._loops(running):
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
        engine = create_engine(
            settings.database_url.get_secret_value(),
            name=f"remit-{self.name}",
            pool_size=settings.pool_size,
            statement_timeout=settings.statement_timeout_seconds,
            lock_timeout=settings.lock_timeout_seconds,
        )
        stack.push_async_callback(engine.dispose)
        await self._require_migrated()
        notifier = Notifier(settings.database_url.get_secret_value())
        stack.push_async_callback(notifier.close)
        units = Units(engine, settings, notifier.wake)
        asker = Asker(settings.amqp_url.get_secret_value(), self.name)
        stack.push_async_callback(asker.close)
        trust = Trust.read(settings.trust_file) if settings.trust_file else Trust({})
        signer = Signer.read(settings.key_file) if settings.key_file else None
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
            self.api, self.name, limit_bytes=settings.request_limit_bytes, timeout_seconds=settings.request_timeout_seconds
        )

        async def check() -> dict[str, Any]:
            async with engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                await raw.fetchval("select 1")
            return {"ready": True, "degraded": [] if running.asker.connected else ["broker"]}

        self._app = Probes(guarded, check)

    def _servers(self) -> list[tuple[Server, Any]]:
        servers = []
        if self.settings.port:
            servers.append((make_server(self), bind(self.settings.host, self.settings.port)))
        for door in self.doors:
            servers.append((make_server(door.app), bind(door.host, door.port)))
        return servers

    def _loops(self, running: Running) -> list[Any]:
        settings = self.settings
        place = StreamPlace.parse(settings.stream_url.get_secret_value())
        dsn = settings.database_url.get_secret_value()
        relay = Relay(self.name, running.secret("relay_database_url"), place, running.signer)
        loops: list[Any] = [relay.run()]
        if self.sink is not None:
            loops.append(SinkLoop(self.name, self.sink, place, running.asker).run())
        consumers = Consumers.merge(_rules_consumers(), *self.consumers)
        loops += [
            FactLoop(self.name, producer, consumers, running.units, dsn, place, running.asker, running.trust).run()
            for producer in consumers.producers()
        ]
        loops.append(
            serve_commands(
                self.name,
                settings.amqp_url.get_secret_value(),
                list(self.commands),
                running.units,
                running.secret("relay_database_url"),
                self.restate,
            )
        )
        loops += [job.forever(running) for job in (*self.jobs, _summarize_refusals(self))]
        loops += [worker(running) for worker in self.workers]
        return loops

    async def _require_migrated(self) -> None:
        connection = await asyncpg.connect(self.settings.database_url.get_secret_value(), timeout=5)
        try:
            await require_head(connection, self.name, self.migrations)
        finally:
            await connection.close()


def _summarize_refusals(service: Service) -> Job:
    async def summarize_refusals(_: Running) -> None:
        door: Door | None = service.api.state.door
        if door is not None:
            await door.refusals.summarize()

    return every(seconds=15)(summarize_refusals)


def _rules_consumers() -> Consumers:
    consumers = Consumers()
    for kind in STATUS_FACTS:
        consumers.add(kind, project_status)
    for bundle_kind in BUNDLE_FACTS:
        consumers.add(bundle_kind, project_bundle)
    return consumers


def _closed_door() -> Any:  # noqa: ANN401  (a door before the service is started: any use of it is an error)
    return None


def app_of(service: Service) -> FastAPI:
    """The FastAPI app inside, for its OpenAPI document and for tests over its routes."""
    return service.api


log = logger(part="service")
__all__ = ["PublicDoor", "Running", "Service", "app_of", "on"]
