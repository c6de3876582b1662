"""Migrations of a service's own database: one job before any process starts, by the owner role."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine


class NotMigratedError(Exception):
    """The database is at another revision than the code; the message says what to run."""


def migrations_of(package: ModuleType) -> Path:
    """The folder of a service's migrations, beside its `src`."""
    if package.__file__ is None:
        msg = f"{package.__name__} has no file"
        raise ValueError(msg)
    return Path(package.__file__).parents[2] / "migrations"


async def upgrade(owner_url: str, directory: Path) -> tuple[str | None, str | None]:
    """Bring a database to the newest revision; returns those before and after. Two at once wait for each other."""
    engine = create_async_engine(owner_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgrade, _scripts(directory))
    finally:
        await engine.dispose()


async def require_head(connection: Any, service: str, directory: Path) -> None:
    """Refuse to start on another revision than the code's: NotMigratedError."""
    head = _scripts(directory).get_current_head()
    found = await connection.fetchval("select to_regclass('alembic_version') is not null")
    current = await connection.fetchval("select version_num from alembic_version") if found else None
    if current != head:
        msg = f"{service}: the database is at {current or 'nothing'}, the code at {head}: run `remit migrate`"
        raise NotMigratedError(msg)


def _scripts(directory: Path) -> ScriptDirectory:
    return ScriptDirectory(str(directory), version_locations=[str(directory / "versions")])


def _upgrade(connection: Connection, scripts: ScriptDirectory) -> tuple[str | None, str | None]:
    connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended('remit.migrate', 0))")
    before = MigrationContext.configure(connection).get_current_revision()

    def plan(revision: Any, _: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", revision)  # noqa: SLF001  (what alembic's own `upgrade` command calls)

    with EnvironmentContext(Config(), scripts, fn=plan) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
    # Each process compares the revision with its code before it starts; who may enter the database may read it.
    connection.exec_driver_sql("grant select on alembic_version to public")
    return before, scripts.get_current_head()
