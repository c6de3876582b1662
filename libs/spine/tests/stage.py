"""A producer and a consumer with databases, roles and a stream of their own, torn down afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis import migration
from chassis.caller import Caller
from chassis.db import create_engine
from chassis.errors import ForbiddenError
from chassis.ids import new_id
from chassis.settings import ServiceSettings
from chassis.uow import UnitOfWork, Units
from contracts.chassis import FactsResent, ResendFacts
from contracts.envelope import Fact
from remit_local.testing import Servers
from spine.facts import FactLoop, Handler, on
from spine.outbox import Relay
from spine.resend import Resender
from spine.stream import StreamPlace, stream_of

PASSWORD = "it's a secret"
TABLE = "create table seen (pos bigint generated always as identity primary key, organization_id uuid, number integer, caused_by uuid)"


class Thing(Fact):
    """Something with a number happened."""

    subject_field: ClassVar = "number"
    number: int
    problem: str = ""


def happened(producer: str, past: str = "happened", *, is_security: bool = False) -> type[Thing]:
    class Happened(Thing):
        type: ClassVar = f"{producer}.thing.{past}.v1"
        security: ClassVar = is_security

    return Happened


def with_role(url: str, name: str, database: str, password: str = PASSWORD) -> str:
    parts = urlsplit(url)
    quoted = password.replace("'", "%27").replace(" ", "%20")
    return urlunsplit(parts._replace(netloc=f"{name}:{quoted}@{parts.hostname}:{parts.port}", path=f"/{database}"))


def in_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def make_database(url: str, service: str, *extra: str, sinks: Sequence[str] = ()) -> None:
    names = (*migration.roles(service), *sinks)
    server = await asyncpg.connect(url)
    for statement in (
        *migration.create_roles(service, dict.fromkeys(names, PASSWORD)),
        *migration.create_database(service),
    ):
        await server.execute(statement)
    await server.close()
    database = await asyncpg.connect(in_database(url, migration.role(service)))
    for statement in migration.database_grants(service, sinks):
        await database.execute(statement)
    await database.close()
    owner = await asyncpg.connect(with_role(url, migration.role(service, "owner"), migration.role(service)))
    for statement in (*migration.chassis_tables(service, sinks=sinks), *extra):
        await owner.execute(statement)
    await owner.close()


async def drop_database(url: str, service: str, *sinks: str) -> None:
    server = await asyncpg.connect(url)
    await server.execute(f"drop database if exists {migration.role(service)} with (force)")
    for name in (*migration.roles(service), *sinks):
        await server.execute(f"drop role if exists {name}")
    await server.close()


@dataclass
class Stage:
    servers: Servers
    producer: str
    consumer: str
    place: StreamPlace
    engines: list[AsyncEngine] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    restated: list[tuple[str, str]] = field(default_factory=list)

    def dsn(self, service: str, suffix: str = "") -> str:
        return with_role(self.servers.postgres_url, migration.role(service, suffix), migration.role(service))

    async def superuser(self, service: str) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(in_database(self.servers.postgres_url, migration.role(service)))

    async def sql(self, service: str, statement: str, *values: Any) -> list[asyncpg.Record]:
        connection = await self.superuser(service)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def value(self, service: str, statement: str, *values: Any) -> Any:
        rows = await self.sql(service, statement, *values)
        return rows[0][0] if rows else None

    def units(self, service: str, suffix: str = "", wake: Callable[[], None] = lambda: None) -> Units:
        engine = create_engine(
            self.dsn(service, suffix), name=f"test {service}", pool_size=3, statement_timeout=20, lock_timeout=5
        )
        self.engines.append(engine)
        url = "postgresql://x"
        settings = ServiceSettings(service=service, database_url=url, amqp_url="amqp://x", stream_url="x")  # type: ignore[arg-type]
        return Units(engine, settings, wake)

    async def emit(
        self,
        fact: type[Thing],
        numbers: Iterable[int],
        organizations: Sequence[UUID],
        *,
        per: int = 50,
        units: Units | None = None,
        **fields: Any,
    ) -> None:
        units = units or self.units(self.producer)
        pending = list(numbers)
        while pending:
            some, pending = pending[:per], pending[per:]
            async with units.begin(Caller.system(organizations[0], "test")) as uow:
                for number in some:
                    organization_id = organizations[number % len(organizations)]
                    await uow.become(
                        Caller.system(organization_id, "test", traceparent=f"00-{number:032x}-{number:016x}-00")
                    )
                    uow.emit(fact(number=number, **fields))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    def relay(self, **options: Any) -> Relay:
        return Relay(self.producer, self.dsn(self.producer, "relay"), self.place, **options)

    async def ask(self, producer: str, first: int, last: int) -> FactsResent:
        self.asked.append((first, last))
        resender = Resender(self.dsn(producer, "relay"))
        try:
            return await resender.answer(ResendFacts(first=first, last=last))
        finally:
            await resender.close()

    async def ask_restate(self, producer: str, noun: str) -> None:
        self.restated.append((producer, noun))

    def loop(self, *handlers: Handler, **options: Any) -> FactLoop:
        return FactLoop(
            self.consumer, self.producer, handlers, units=self.units(self.consumer), place=self.place,
            ask=options.pop("ask", self.ask), ask_restate=self.ask_restate, **options,
        )  # fmt: skip

    async def numbers(self) -> list[int]:
        return [row["number"] for row in await self.sql(self.consumer, "select number from seen order by pos")]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for engine in self.engines:
            await engine.dispose()


def recorder(*facts: type[Thing]) -> Handler:
    """A handler that stores the number, refuses `refuse`, and stumbles over `nul`, as a consumer would."""

    async def record(uow: UnitOfWork, fact: Thing) -> None:
        if fact.problem == "refuse":
            raise ForbiddenError("never")
        if fact.problem == "broken":
            raise RuntimeError("not the fact's fault")
        insert = text(
            "insert into seen (organization_id, number, caused_by) values (:organization_id, :number, :cause)"
        )
        number = 2**40 if fact.problem == "nul" else fact.number
        values = {"organization_id": uow.organization_id, "number": number, "cause": UUID(uow.caller.causation_id)}
        await uow.execute(insert, values)

    return on(*facts)(record)


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110  (what is waited for happens in a database)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def make_stage(servers: Servers) -> AsyncIterator[Stage]:
    name = new_id().hex[-10:]
    stage = Stage(servers, f"p{name}", f"c{name}", StreamPlace.parse(servers.stream_url))
    seen = [TABLE, *migration.isolate(stage.consumer, "seen")]
    await make_database(servers.postgres_url, stage.producer)
    await make_database(servers.postgres_url, stage.consumer, *seen)
    try:
        yield stage
    finally:
        await stage.close()
        await delete_stream(stage)
        for service in (stage.producer, stage.consumer):
            await drop_database(servers.postgres_url, service)


async def delete_stream(stage: Stage) -> None:
    import aio_pika

    connection = await aio_pika.connect(stage.servers.amqp_url)
    async with connection:
        channel = await connection.channel()
        with suppress(aio_pika.exceptions.ChannelClosed):
            await channel.queue_delete(stream_of(stage.producer))
