"""A migrated database of execution with its roles, organizations to act in, and the service's door."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import httpx2 as httpx
import orjson

import execution
from chassis import migration
from chassis.auth import Signer, TokenIssuer, write_keys
from chassis.caller import Caller
from chassis.db import create_engine
from chassis.ids import new_id
from chassis.migrate import migrations_of, upgrade
from chassis.permits import Permit
from chassis.sealing import write_keyring
from chassis.uow import Units
from execution.main import build
from execution.settings import Settings

SERVICE = "execution"
PASSWORD = "a-secret"


@dataclass(frozen=True)
class Place:
    """One organization with one workspace."""

    organization_id: UUID
    workspace_id: UUID

    def caller(self, role: str = "org_admin", *, scopes: Sequence[str] = (), user_id: UUID | None = None) -> Caller:
        user = user_id or new_id()
        return Caller(
            self.organization_id,
            "user",
            str(user),
            user_id=user,
            roles=frozenset((role,)),
            scopes=frozenset(scopes),
            traceparent=f"00-{user.int:032x}-00f067aa0ba902b7-00",
        )


class Stage:
    """What the tests of one session share."""

    def __init__(self, server_url: str, database: str, directory: Path) -> None:
        self._server_url, self.database, self.directory = server_url, database, directory
        keys = write_keys(directory / "keys", {"gateway": ("token",)})
        self.issuer = TokenIssuer(Signer.read(directory / "keys" / "gateway.token.pem"))
        self.settings = Settings(
            service=SERVICE,
            database_url=self.url(),
            batch_database_url=self.url("batch"),
            sweep_database_url=self.url("sweep"),
            relay_database_url=self.url("relay"),
            amqp_url="amqp://nobody@127.0.0.1:1/",
            stream_url="rabbitmq-stream://nobody:x@127.0.0.1:1/",
            trust_file=keys,
            key_encryption_file=write_keyring(directory / "keyring.json"),
            object_directory=directory / "objects",
            log_format="console",
        )
        self.service = build(self.settings)
        self.units = self.units_of()

    def url(self, suffix: str = "") -> str:
        parts = urlsplit(self._server_url)
        place = f"{migration.role(SERVICE, suffix)}:{PASSWORD}@{parts.hostname}:{parts.port}"
        return urlunsplit(parts._replace(netloc=place, path=f"/{self.database}"))

    def units_of(self, suffix: str = "") -> Units:
        engine = create_engine(self.url(suffix), name="test", pool_size=8, statement_timeout=20, lock_timeout=5)
        return Units(engine, self.settings)

    async def owner(self) -> Any:
        return await asyncpg.connect(self.url("owner"))

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        connection = await self.owner()
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def facts(self, organization_id: UUID) -> list[dict[str, Any]]:
        """Every fact an organization's changes have left, in order. The outbox is read as the relay reads it."""
        connection = await asyncpg.connect(self.url("relay"))
        try:
            rows = await connection.fetch("select body from outbox where organization_id = $1 order by pos", organization_id)
        finally:
            await connection.close()
        return [orjson.loads(row["body"]) for row in rows]

    async def types(self, organization_id: UUID) -> list[str]:
        return [fact["type"].removeprefix("execution.") for fact in await self.facts(organization_id)]

    async def place(self, **workspace: Any) -> Place:
        """A fresh organization with one workspace."""
        place = Place(new_id(), new_id())
        await self.sql(
            "insert into organization_rules (organization_id, status, status_version) values ($1, 'active', 1)",
            place.organization_id,
        )
        await self.workspace(place, place.workspace_id, **workspace)
        return place

    async def workspace(self, place: Place, workspace_id: UUID, **fields: Any) -> None:
        row = {
            "id": workspace_id, "organization_id": place.organization_id, "name": "main",
            "environment_type": "development", "status": "active", "max_agents": 50, "max_concurrent_executions": 10,
            "requires_approval": False, "pii_allowed": True, "encryption_required": False, "retention_days": 30,
            **fields,
        }  # fmt: skip
        names = ", ".join(row)
        slots = ", ".join(f"${at}" for at in range(1, len(row) + 1))
        await self.sql(f"insert into workspace ({names}) values ({slots})", *row.values())

    async def subscription(self, place: Place, *, agents: int = 50, runs: int = 1000) -> None:
        now = datetime(2026, 11, 1, tzinfo=UTC)
        await self.sql(
            """insert into subscription (id, organization_id, plan_id, status, current_period_start, current_period_end,
            max_agents, max_executions_per_month) values ($1, $2, 'free', 'active', $3, $3, $4, $5)""",
            new_id(), place.organization_id, now, agents, runs,
        )  # fmt: skip

    def client(self, caller: Caller | None, **headers: str) -> httpx.AsyncClient:
        """A client of the service's own door, with an internal token as the edge makes it."""
        if caller is not None:
            headers["authorization"] = f"Bearer {self.issuer.issue(caller, SERVICE)}"
        transport = httpx.ASGITransport(app=self.service, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://execution", headers=headers)


def permit(caller: Caller, permission: str, *, own_only: bool = False) -> Permit:
    return Permit(permission, own_only=own_only, owner_id=caller.owner_id)


@asynccontextmanager
async def make_stage(server_url: str, directory: Path) -> AsyncIterator[Stage]:
    database = f"remit_execution_{os.getpid()}_{new_id().hex[-6:]}"
    await _make_database(server_url, database)
    stage = Stage(server_url, database, directory)
    await upgrade(stage.url("owner"), migrations_of(execution))
    ready = asyncio.Event()
    serving = asyncio.create_task(stage.service.run(api=True, work=False, ready=ready.set))
    await asyncio.wait({serving, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if serving.done():
            serving.result()
        yield stage
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await stage.service.api.state.signals.close()
        await stage.units.engine.dispose()
        server = await asyncpg.connect(server_url)
        await server.execute(f"drop database {database} with (force)")
        await server.close()


async def _make_database(server_url: str, database: str) -> None:
    names = migration.roles(SERVICE)
    server = await asyncpg.connect(server_url)
    # Other test processes share the server and its roles.
    await server.execute("select pg_advisory_lock(4711)")
    for statement in migration.create_roles(SERVICE, dict.fromkeys(names, PASSWORD)):
        await server.execute(statement)
    await server.execute(f"create database {database} owner {migration.role(SERVICE, 'owner')} template template0")
    await server.close()
    inside = await asyncpg.connect(urlunsplit(urlsplit(server_url)._replace(path=f"/{database}")))
    everybody = ", ".join(names)
    for statement in (
        f"revoke all on database {database} from public",
        f"grant connect on database {database} to {everybody}",
        "revoke create on schema public from public",
        f"grant usage on schema public to {everybody}",
        f"grant create on schema public to {migration.role(SERVICE, 'owner')}",
    ):
        await inside.execute(statement)
    await inside.close()
