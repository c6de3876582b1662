"""The pytest plugin: one set of servers per session, also under xdist; nothing left behind."""

import aio_pika
import asyncpg
import pytest

from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


async def test_session_servers_answer_with_administrator_rights(servers: Servers) -> None:
    database = await asyncpg.connect(servers.postgres_url)
    assert await database.fetchval("select rolsuper from pg_roles where rolname = current_user")
    await database.close()
    bus = await aio_pika.connect(servers.amqp_url)
    channel = await bus.channel()
    queue = await channel.declare_queue(exclusive=True)
    await channel.default_exchange.publish(aio_pika.Message(b"hello"), queue.name)
    received = await queue.get(timeout=10)
    assert received.body == b"hello"
    await bus.close()


async def test_session_servers_are_the_same_for_every_test(servers: Servers, pytestconfig: pytest.Config) -> None:
    again = pytestconfig.pluginmanager.get_plugin("remit_local.testing")
    assert again is not None
    assert servers.stream_url.startswith("rabbitmq-stream://")
