"""A database that is away or overrun, and a route that breaks: one clear answer each, never a second one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import orjson
import pytest
from libs.spine.tests.testing.parcels import build
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.types import Message, Scope

from chassis.db import begin
from chassis.errors import UnavailableError
from chassis.http import Guard, make_app
from chassis.ids import new_id
from chassis.settings import ServiceSettings
from remit_local.testing import Servers
from spine.testing import Stage, staged

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, ServiceSettings, "billing", servers.postgres_url) as made:
        yield made


async def test_a_server_that_takes_no_connection_is_unavailable(stage: Stage) -> None:
    url = stage.database.url("").replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    name = url.rpartition("/")[2]
    await stage.database.sql(f'alter database "{name}" connection limit 0')
    try:
        with pytest.raises(UnavailableError) as refused:
            async with begin(engine, new_id()):
                pass
        assert (refused.value.status, refused.value.retry_after_seconds) == (503, 1)
    finally:
        await stage.database.sql(f'alter database "{name}" connection limit -1')
        await engine.dispose()


async def test_a_server_that_hangs_up_meanwhile_is_unavailable(stage: Stage) -> None:
    async def read_on() -> None:
        async with begin(stage.units.engine, new_id()) as (_, raw):
            await stage.database.sql("select pg_terminate_backend($1)", raw.get_server_pid())
            await raw.fetchval("select 1")

    with pytest.raises(UnavailableError, match="does not answer"):
        await read_on()


async def test_a_pool_that_is_used_up_is_unavailable(stage: Stage) -> None:
    url = stage.database.url("").replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0, pool_timeout=0.01)
    async with begin(engine, new_id()):
        with pytest.raises(UnavailableError, match="wait for the database"):
            async with begin(engine, new_id()):
                pass
    async with begin(engine, new_id()) as (_, raw):
        assert await raw.fetchval("select 1") == 1
    await engine.dispose()


async def test_a_crash_is_answered_once_as_a_problem() -> None:
    app = make_app("test", [], None, "1")  # type: ignore[arg-type]  # a door that nobody goes through

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("a secret detail")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/crash", "raw_path": b"/crash", "query_string": b"", "root_path": "", "headers": [], "client": None,
        "server": None, "state": {},
    }  # fmt: skip
    await Guard(app, "test", limit_bytes=1000, timeout_seconds=5)(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert [message["status"] for message in starts] == [500]
    body = b"".join(message.get("body", b"") for message in sent)
    assert orjson.loads(body)["code"] == "internal"
    assert b"secret" not in body


async def test_a_connection_that_the_server_has_ended_is_replaced_unnoticed(stage: Stage) -> None:
    url = stage.database.url("").replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)
    seen = set()
    for _ in range(20):  # how far the news of its end has come differs each time
        async with begin(engine, new_id()) as (_, raw):
            pid = await raw.fetchval("select pg_backend_pid()")
        seen.add(pid)
        await stage.database.sql("select pg_terminate_backend($1)", pid)
    assert len(seen) == 20
    await engine.dispose()


async def test_a_connection_that_cannot_be_rolled_back_any_more_goes_and_nobody_hears_of_it(stage: Stage) -> None:
    """As where the server hangs up while something is still on its way: only what the block itself met is told."""
    async with begin(stage.units.engine, new_id()) as (_, raw):
        dying, pending = raw, asyncio.create_task(raw.fetch("select pg_sleep(5)"))
        await asyncio.sleep(0.1)
    await asyncio.gather(pending, return_exceptions=True)
    assert dying.is_closed()
    async with begin(stage.units.engine, new_id()) as (_, raw):
        assert await raw.fetchval("select 1") == 1


async def test_what_a_block_itself_met_is_told_also_where_nothing_can_be_rolled_back(stage: Stage) -> None:
    async def break_down() -> None:
        async with begin(stage.units.engine, new_id()) as (_, raw):
            asyncio.create_task(raw.fetch("select pg_sleep(5)")).add_done_callback(lambda done: done.exception())
            await asyncio.sleep(0.1)
            raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        await break_down()


class _HungUp:
    """Stands where a new connection stands whose server hangs up while SQLAlchemy asks for its version."""

    sync_connection = None

    async def start(self) -> None:
        met = asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
        met.__cause__ = asyncpg.InternalClientError("the same, as asyncpg says it")
        raise DBAPIError("select pg_catalog.version()", None, met)


async def test_a_server_that_hangs_up_on_a_new_connection_is_unavailable() -> None:
    engine: Any = SimpleNamespace(connect=_HungUp)
    with pytest.raises(UnavailableError) as refused:
        async with begin(engine, new_id()):
            pass
    assert refused.value.status == 503
