"""Connections: one pool per role, in autocommit, because the unit of work says BEGIN itself, with its organization."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import MetaData, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from chassis.errors import UnavailableError

HUNG_UP = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # used between the server's last word and the end of its connection
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""What a connection says that the server has ended."""
GONE = (*HUNG_UP, OSError)
"""What a database that went away looks like; before BEGIN has answered, trying again is always safe."""

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_name)s_fkey",
    "pk": "%(table_name)s_pkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}


class Row(DeclarativeBase):
    """The root of every table's class; each service makes its own subclass, so that none sees another's tables."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)
    # Every text is `text` and every time knows its zone; a bare datetime would be sent without one.
    type_annotation_map = {str: Text, datetime: postgresql.TIMESTAMP(timezone=True)}


def create_engine(url: str, *, name: str, pool_size: int, statement_timeout: float, lock_timeout: float) -> AsyncEngine:
    """A pool for one role; `name` shows in pg_stat_activity. Time-outs in seconds."""
    return create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        connect_args={
            "timeout": 5,
            "command_timeout": statement_timeout + 5,
            "server_settings": {
                "application_name": name,
                "statement_timeout": str(int(statement_timeout * 1000)),
                "lock_timeout": str(int(lock_timeout * 1000)),
                "idle_in_transaction_session_timeout": "30000",
            },
        },
    )


@asynccontextmanager
async def begin(engine: AsyncEngine, organization_id: UUID | None) -> AsyncIterator[tuple[AsyncConnection, Any]]:
    """A transaction that sees one organization (None: no organization's rows at all); rolled back unless committed.

    Yields SQLAlchemy's connection and asyncpg's below it. Commit with `await raw.execute("commit")`.
    UnavailableError when the database does not answer, or goes away meanwhile.
    """
    async with _connected(engine, organization_id) as (connection, raw):
        try:
            yield connection, raw
        except HUNG_UP as error:
            raise UnavailableError("The database does not answer.", retry_after_seconds=1) from error
        finally:
            if raw.is_closed():
                await connection.invalidate()
            elif raw.is_in_transaction():
                await _roll_back(connection, raw)


@asynccontextmanager
async def _connected(engine: AsyncEngine, organization_id: UUID | None) -> AsyncIterator[tuple[AsyncConnection, Any]]:
    for last in (False, True):
        connection = engine.connect()
        try:
            await connection.start()
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.execute(begin_statement(organization_id))
        except PoolTimeoutError as error:
            raise UnavailableError("Too many requests wait for the database.", retry_after_seconds=1) from error
        except (*GONE, TimeoutError, DBAPIError) as error:
            await _discard(connection)
            if isinstance(error, DBAPIError) and not _is_away(error):
                raise
            if last:
                raise UnavailableError("The database does not answer.", retry_after_seconds=1) from error
            continue
        except BaseException:
            await _discard(connection)
            raise
        try:
            yield connection, raw
        finally:
            await connection.close()
        return


def _is_away(error: DBAPIError) -> bool:
    """Whether the server is away, or hung up while SQLAlchemy asked its own first questions."""
    met = getattr(error.orig, "__cause__", None)
    return is_away(getattr(error.orig, "sqlstate", None)) or isinstance(met, GONE)


def is_away(sqlstate: str | None) -> bool:
    """Whether an error of this SQLSTATE says that the server is starting, stopping, full or out of reach."""
    return (sqlstate or "").startswith(("08", "57P", "53"))


def begin_statement(organization_id: UUID | None) -> str:
    """BEGIN and the organization, in one round trip. The organization is a UUID object: nothing to inject."""
    return f"begin; select set_config('app.organization_id', '{organization_id or ''}', true)"


async def _discard(connection: AsyncConnection) -> None:
    if connection.sync_connection is not None:
        await connection.invalidate()
        await connection.close()


async def _roll_back(connection: AsyncConnection, raw: Any) -> None:
    """Roll back; where that cannot be said any more, the connection goes, and the server rolls back by itself."""
    try:
        await raw.execute("rollback", timeout=5)
    except (*GONE, TimeoutError):
        await connection.invalidate()  # what the block itself met, if anything, is what its caller hears of
    except BaseException:
        await connection.invalidate()
        raise


def timestamptz() -> postgresql.TIMESTAMP:
    """The type of every time."""
    return postgresql.TIMESTAMP(timezone=True)
