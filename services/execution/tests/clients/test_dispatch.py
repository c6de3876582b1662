"""The queue of runs against a real broker, and what is used of aiormq below its public methods."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from importlib.metadata import version
from uuid import UUID

import aio_pika
import aiormq
import pytest
from aiormq.abc import ChannelFrame

from chassis.errors import UnavailableError
from chassis.ids import new_id
from execution.clients.dispatch import Delivery, Dispatch, Line
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def queue(servers: Servers, anyio_backend: object) -> AsyncIterator[str]:
    name = f"engine.runs.{new_id().hex[-10:]}"
    yield name
    connection = await aio_pika.connect(servers.amqp_url)
    async with connection:
        await (await connection.channel()).queue_delete(name)


def some(count: int) -> list[Dispatch]:
    return [Dispatch(new_id(), 30, new_id(), number) for number in range(count)]


async def take(inbox: asyncio.Queue[Delivery], count: int) -> list[Delivery]:
    return [await asyncio.wait_for(inbox.get(), 10) for _ in range(count)]


def test_a_dispatch_is_42_bytes_in_a_fixed_order() -> None:
    organization_id, run_id = UUID(int=1), UUID(int=2)
    body = Dispatch(organization_id, 365, run_id, 3).to_bytes()
    assert body == organization_id.bytes + struct.pack(">h", 365) + run_id.bytes + struct.pack(">q", 3)
    assert len(body) == 42
    assert Dispatch.of(body) == (organization_id, 365, run_id, 3)
    with pytest.raises(ValueError, match="42 bytes"):
        Dispatch.of(body[:-1])


async def test_a_batch_arrives_whole_and_what_is_done_does_not_come_back(servers: Servers, queue: str) -> None:
    line = await Line.open(servers.amqp_url, queue=queue)
    sent = some(300)
    assert await line.publish(sent) == [True] * 300
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    reader = await Line.open(servers.amqp_url, queue=queue, prefetch=10)
    await reader.consume(inbox.put_nowait)
    got = []
    for number in range(300):  # the last one comes only when the first 290 are acknowledged
        got += await take(inbox, 1)
        if number < 290:
            got[-1].done()
    assert [delivery.dispatch for delivery in got] == sent
    assert not any(delivery.redelivered for delivery in got)
    await reader.close()
    again = await Line.open(servers.amqp_url, queue=queue, prefetch=300)
    await again.consume(inbox.put_nowait)
    back = await take(inbox, 10)
    assert {delivery.dispatch for delivery in back} == set(sent[290:])
    assert all(delivery.redelivered for delivery in back)
    await again.close()
    await line.close()


async def test_what_is_given_back_comes_again_as_redelivered(servers: Servers, queue: str) -> None:
    line = await Line.open(servers.amqp_url, queue=queue, prefetch=1)
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    await line.publish(some(1))
    await line.consume(inbox.put_nowait)
    (first,) = await take(inbox, 1)
    first.back()
    (second,) = await take(inbox, 1)
    assert (second.dispatch, second.redelivered) == (first.dispatch, True)
    second.done()
    await line.close()


async def test_prefetch_bounds_what_is_in_hand(servers: Servers, queue: str) -> None:
    line = await Line.open(servers.amqp_url, queue=queue, prefetch=5)
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    await line.publish(some(9))
    await line.consume(inbox.put_nowait)
    held = await take(inbox, 5)
    assert inbox.empty()
    held[0].done()
    await take(inbox, 1)
    await line.close()


async def test_a_stranger_s_message_is_dropped(servers: Servers, queue: str) -> None:
    line = await Line.open(servers.amqp_url, queue=queue, prefetch=5)
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    await line.consume(inbox.put_nowait)
    connection = await aio_pika.connect(servers.amqp_url)
    async with connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"nonsense"), queue)
    sent = some(1)
    await line.publish(sent)
    assert [delivery.dispatch for delivery in await take(inbox, 1)] == sent
    await line.close()


async def test_a_lost_line_says_so_and_publishes_nothing(servers: Servers, queue: str) -> None:
    line = await Line.open(servers.amqp_url, queue=queue)
    await line.close()
    assert line.lost.is_set()
    assert await line.publish(some(2)) == [False, False]
    with pytest.raises(UnavailableError):
        await Line.open("amqp://guest:guest@127.0.0.1:1/", queue=queue)


async def test_aiormq_still_is_what_this_was_written_against(servers: Servers) -> None:
    assert version("aiormq").split(".")[0] == "7"
    connection = await aiormq.connect(servers.amqp_url)
    channel = await connection.channel(publisher_confirms=True)
    assert channel.delivery_tag == 0
    assert len(channel.confirmations) == 0
    assert channel.write_queue is connection.write_queue
    assert isinstance(channel.number, int)
    async with channel.lock:
        pass
    assert ChannelFrame(payload=b"", should_close=False).drain_future is None
    await connection.close()
