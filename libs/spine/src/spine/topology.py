"""What the broker holds: exchanges, queues, streams, declared once before any process; and dead letters' way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, HeadersType

from contracts.chassis import ResendFacts, RestateRows
from contracts.envelope import Command
from spine.stream import stream_of

REPLIES, LIVE = "replies", "live"
CHASSIS_COMMANDS: tuple[type[Command], ...] = (ResendFacts, RestateRows)
RETRY_SECONDS = (1, 5, 25, 125)
DELIVERY_LIMIT = 20
QUEUE_LIMIT = 100_000
PUBLISH_SECONDS = 10


def command_name(command: type[Command]) -> str:
    """The routing key of a command: `resume_run.v1` of `execution.resume_run.v1`."""
    return command.type.partition(".")[2]


def work_exchange(service: str) -> str:
    """Where commands for a service are published."""
    return f"work.{service}"


def work_queue(service: str, command: type[Command]) -> str:
    """Where a service reads one command: `work.<service>.<verb_noun>.v<N>`."""
    return f"work.{service}.{command_name(command)}"


def retry_exchange(service: str) -> str:
    """Where a service puts a command back for later, by the key `<seconds>.<command>`."""
    return f"retry.{service}"


def dead_letters(service: str) -> str:
    """The exchange and the queue of commands that a service could not or would not do."""
    return f"dead.{service}"


async def declare_topology(amqp_url: str, commands: Mapping[str, Iterable[type[Command]]]) -> None:
    """Declare all that services need, given each service's own commands. May be repeated with more, not with less."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        for name in (REPLIES, LIVE):
            await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
        for service, own in commands.items():
            await _declare_service(channel, service, (*CHASSIS_COMMANDS, *own))


async def _declare_service(channel: AbstractChannel, service: str, commands: Iterable[type[Command]]) -> None:
    topic = aio_pika.ExchangeType.TOPIC
    work = await channel.declare_exchange(work_exchange(service), topic, durable=True)
    retry = await channel.declare_exchange(retry_exchange(service), topic, durable=True)
    dead = await channel.declare_exchange(dead_letters(service), topic, durable=True)
    dead_queue = await channel.declare_queue(
        dead_letters(service), durable=True, arguments={"x-queue-type": "quorum", "x-max-length": QUEUE_LIMIT}
    )
    await dead_queue.bind(dead, "#")
    for seconds in RETRY_SECONDS:
        arguments = _quorum(dead_letter_to=work_exchange(service)) | {"x-message-ttl": seconds * 1000}
        queue = await channel.declare_queue(f"{retry_exchange(service)}.{seconds}", durable=True, arguments=arguments)
        await queue.bind(retry, f"{seconds}.#")
    for command in commands:
        arguments = _quorum(dead_letter_to=dead_letters(service)) | {"x-delivery-limit": DELIVERY_LIMIT}
        queue = await channel.declare_queue(work_queue(service, command), durable=True, arguments=arguments)
        await queue.bind(work, command_name(command))
        await queue.bind(work, f"*.{command_name(command)}")  # back from a retry queue
    # Its size and age are the operator's policy: with other arguments it could not be declared again.
    await channel.declare_queue(stream_of(service), durable=True, arguments={"x-queue-type": "stream"})


def _quorum(*, dead_letter_to: str) -> HeadersType:
    return {
        "x-queue-type": "quorum", "x-max-length": QUEUE_LIMIT, "x-overflow": "reject-publish",
        "x-dead-letter-exchange": dead_letter_to, "x-dead-letter-strategy": "at-least-once",
    }  # fmt: skip


async def replay_dead(amqp_url: str, service: str, *, limit: int = 1000) -> int:
    """Send a service's dead letters to it once more, oldest first; returns how many. Their deadlines still hold."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        queue = await channel.get_queue(dead_letters(service))
        waiting = queue.declaration_result.message_count or 0
        exchange = await channel.get_exchange(work_exchange(service))
        done = 0
        while done < min(limit, waiting) and (letter := await queue.get(fail=False)) is not None:
            await exchange.publish(_alive(letter), _name_of(letter), timeout=PUBLISH_SECONDS)
            await letter.ack()
            done += 1
    return done


def _name_of(letter: AbstractIncomingMessage) -> str:
    """Its routing key, without the seconds it last waited."""
    seconds, _, name = (letter.routing_key or "").partition(".")
    return name if seconds.isdigit() else letter.routing_key or ""


def _alive(letter: AbstractIncomingMessage) -> aio_pika.Message:
    headers = {"grant": letter.headers.get("grant", ""), "attempt": 1}
    return aio_pika.Message(
        letter.body, headers=headers, message_id=letter.message_id, type=letter.type, content_type=letter.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )  # fmt: skip
