"""Databases of tests: a service's migrations run once per session into a template, every test module clones it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

import chassis.migration
from chassis.ids import new_id
from chassis.migrate import upgrade
from chassis.migration import create_roles, database_grants, role, roles

# Roles and templates are the server's, not a database's: several xdist workers make them at once, or nobody does.
_LOCK = "select pg_advisory_lock(hashtextextended('remit.testing.' || $1, 0))"
_UNLOCK = "select pg_advisory_unlock(hashtextextended('remit.testing.' || $1, 0))"


@dataclass(frozen=True)
class Database:
    """One migrated database of a service, with the address of each of its roles."""

    service: str
    name: str
    superuser_url: str
    _kept: list[asyncpg.Connection[asyncpg.Record]] = field(default_factory=list, repr=False, compare=False)
    """The superuser's connections that nobody uses now."""

    def url(self, suffix: str = "") -> str:
        """The address for a role: the doors' (""), owner, batch, relay, sweep, or one of the service's own."""
        name = role(self.service, suffix)
        return address(self.superuser_url, self.name, name, password_of(self.superuser_url, name))

    @asynccontextmanager
    async def connect(self, suffix: str = "") -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection of one of the roles: it sees what the row security of that role shows."""
        connection = await asyncpg.connect(self.url(suffix))
        try:
            yield connection
        finally:
            await connection.close()

    async def sql(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Run a statement as the superuser, who sees all rows: to prepare a test and to look at what it left."""
        connection = self._kept.pop() if self._kept else None
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(address(self.superuser_url, self.name))
        try:
            return await connection.fetch(statement, *values)
        finally:
            self._kept.append(connection)

    async def close(self) -> None:
        """Hang up."""
        while self._kept:
            await self._kept.pop().close()

    async def value(self, statement: str, *values: object) -> Any:
        """The first column of the first row of `sql`, or None."""
        rows = await self.sql(statement, *values)
        return rows[0][0] if rows else None


def address(url: str, database: str, user: str | None = None, password: str = "") -> str:
    """The same server's URL for another database, and for another role if one is named."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0] if user is None else f"{quote(user)}:{quote(password, safe='')}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"{login}@{host}", f"/{database}", parts.query, ""))


def password_of(superuser_url: str, name: str) -> str:
    """A role's password: as random as the superuser's, and the same in every worker without telling each other."""
    return hashlib.sha256(f"{superuser_url}|{name}".encode()).hexdigest()[:32]


@asynccontextmanager
async def clone(
    superuser_url: str, service: str, migrations: Path, extra_roles: Sequence[str] = ()
) -> AsyncIterator[Database]:
    """A fresh database of a service at its newest revision, dropped afterwards.

    `extra_roles` are the suffixes of roles beyond those every service has (audit's `ingest`).
    """
    plan = _Plan(superuser_url, service, migrations, tuple(role(service, suffix) for suffix in extra_roles))
    template = await plan.template()
    name = f"test_{service}_{new_id().hex[-12:]}"
    server = await asyncpg.connect(superuser_url)
    try:
        await server.execute(f"create database {name} template {template} owner {role(service, 'owner')}")
        try:
            await plan.grant(name)
            database = Database(service, name, superuser_url)
            try:
                yield database
            finally:
                await database.close()
        finally:
            await server.execute(f"drop database if exists {name} with (force)")
    finally:
        await server.close()


@dataclass(frozen=True)
class _Plan:
    """What a service's databases are made from."""

    superuser_url: str
    service: str
    migrations: Path
    extra_roles: tuple[str, ...]

    async def template(self) -> str:
        """The name of the service's migrated template, made now if nobody has yet."""
        name = f"template_{self.service}_{self._digest()}"
        server = await asyncpg.connect(self.superuser_url)
        try:
            await server.execute(_LOCK, self.service)
            is_open = await server.fetchval("select datallowconn from pg_database where datname = $1", name)
            if is_open is None or is_open:  # absent, or left half made by a session that was killed
                await self._make_roles(server)
                await self._make_template(server, name)
            await server.execute(_UNLOCK, self.service)
        finally:
            await server.close()
        return name

    async def grant(self, name: str) -> None:
        """Let the service's roles, and nobody else, into a database of it."""
        database = await asyncpg.connect(address(self.superuser_url, name))
        try:
            for statement in database_grants(self.service, self.extra_roles, database=name):
                await database.execute(statement)
        finally:
            await database.close()

    async def _make_roles(self, server: asyncpg.Connection[asyncpg.Record]) -> None:
        names = (*roles(self.service), *self.extra_roles)
        passwords = {name: password_of(self.superuser_url, name) for name in names}
        for statement in create_roles(self.service, passwords):
            await server.execute(statement)

    async def _make_template(self, server: asyncpg.Connection[asyncpg.Record], name: str) -> None:
        owner = role(self.service, "owner")
        await server.execute(f"drop database if exists {name} with (force)")
        await server.execute(f"create database {name} owner {owner} template template0 encoding 'UTF8'")
        await self.grant(name)
        await upgrade(address(self.superuser_url, name, owner, password_of(self.superuser_url, owner)), self.migrations)
        # Nobody may connect from here on: a session in the template would stop every clone.
        await server.execute(f"alter database {name} with allow_connections false")

    def _digest(self) -> str:
        """Names a template after all it is made from, so that a server kept between sessions shows no old one."""
        digest = hashlib.sha256(Path(chassis.migration.__file__).read_bytes())
        for path in sorted((self.migrations / "versions").glob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]
