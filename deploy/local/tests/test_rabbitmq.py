"""A private RabbitMQ: rights, streams, crashes, restarts, and nobody left behind; alone and under the supervisor."""

import asyncio
import os
import signal
from pathlib import Path

import aio_pika
import pytest
from aio_pika.exceptions import ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused

from remit_local.children import rabbitmq_children, server_child
from remit_local.definitions import joined, service_user
from remit_local.postgres import Postgres
from remit_local.process import family, is_alive, wait_until
from remit_local.rabbitmq import RabbitMQ
from remit_local.supervisor import Supervisor

pytestmark = [pytest.mark.anyio, pytest.mark.seconds(300)]
QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}
ALL_ADDRESSES = {"00000000", "0" * 32}


def open_to_the_network(broker: RabbitMQ) -> list[int]:
    """Which of the broker's ports listen on every address, by the kernel's own tables."""
    ports = {int(path.read_text()) for path in (*broker.folder.glob("*.port"), *broker.epmd.folder.glob("*.port"))}
    assert len(ports) == 4
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    listening = [row[1].rpartition(":") for row in rows if row[3] == "0A"]
    return [int(port, 16) for address, _, port in listening if int(port, 16) in ports and address in ALL_ADDRESSES]


async def test_broker_keeps_messages_streams_users_and_rights_over_a_crash(tmp_path: Path) -> None:
    definitions = joined(
        service_user("alice", "a b/c", configure="^$", write="^(amq\\.default|alice)$", read="^alice$"),
        service_user("bob", "secret", configure="^$", write="^$", read="^$"),
    )
    broker = RabbitMQ(tmp_path, definitions=definitions)
    await broker.start_async()
    url = broker.amqp_url
    await fill(url)
    assert "facts.test\tstream\tfact-streams" in broker.control("list_queues", "name", "type", "policy", "--quiet")
    assert open_to_the_network(broker) == []
    assert "secret" not in (tmp_path / "definitions.json").read_text()
    assert (tmp_path / "definitions.json").stat().st_mode & 0o777 == 0o600
    members = [*family(broker.pid or 0), *family(broker.epmd.pid or 0)]
    broker.kill()
    assert not any(map(is_alive, members))

    await broker.start_async()
    assert broker.amqp_url == url
    await read_as_alice(broker)
    with pytest.raises((ProbableAuthenticationError, ConnectionError)):
        await aio_pika.connect(broker.url("guest", "guest"))
    members = [*family(broker.pid or 0), *family(broker.epmd.pid or 0)]
    await broker.stop_async()
    assert not any(map(is_alive, members))


async def fill(url: str) -> None:
    async with await aio_pika.connect(url) as bus:
        channel = await bus.channel()
        await channel.declare_queue("alice", durable=True, arguments=QUORUM)
        await channel.declare_queue("bob", durable=True, arguments=QUORUM)
        await channel.declare_queue("facts.test", durable=True, arguments=STREAM)
        kept = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(kept, "alice")


async def read_as_alice(broker: RabbitMQ) -> None:
    async with await aio_pika.connect(broker.url("alice", "a b/c")) as bus:
        channel = await bus.channel()
        queue = await channel.get_queue("alice", ensure=False)
        message = await queue.get(timeout=20)
        assert message.body == b"kept"
        await message.ack()
        with pytest.raises(ChannelAccessRefused):
            await (await channel.get_queue("bob", ensure=False)).get(timeout=20)


async def test_supervisor_brings_killed_servers_back_and_ends_them_all(tmp_path: Path) -> None:
    postgres, rabbitmq = Postgres(tmp_path / "postgres", fsync=False), RabbitMQ(tmp_path / "rabbitmq")
    supervisor = Supervisor(tmp_path, [server_child(postgres), *rabbitmq_children(rabbitmq, stop_seconds=3)])
    await supervisor.start()
    victims = [supervisor[name].pid or 0 for name in ("postgres", "epmd", "rabbitmq")]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    names = ("postgres", "epmd", "rabbitmq")
    back = lambda: all(supervisor[name].restarts and supervisor[name].state == "ready" for name in names)  # noqa: E731
    await asyncio.to_thread(wait_until, back, 120, "return of the servers")
    assert await asyncio.to_thread(rabbitmq.is_ready)
    assert await asyncio.to_thread(postgres.is_ready)
    rabbitmq.declare_users_and_policies(service_user("late", "pw", configure="^$", write="^$", read="^$"))
    await (await aio_pika.connect(rabbitmq.url("late", "pw"))).close()
    members = [member for name in names for member in family(supervisor[name].pid or 0)]
    await supervisor.stop()
    assert not any(map(is_alive, members))
