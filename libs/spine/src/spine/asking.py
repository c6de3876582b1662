"""Sending commands: with the caller's grant, and where one waits, the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiormq.exceptions import AMQPError, DeliveryError
from faststream import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from chassis.auth import Signer
from chassis.caller import NOBODY, Caller
from chassis.errors import UnavailableError
from chassis.ids import new_id
from contracts.chassis import FactsResent, ResendFacts, RestateRows, RowsRestated
from contracts.envelope import Command, Reply
from spine.grants import grant
from spine.reading import Ask
from spine.topology import PUBLISH_SECONDS, REPLIES, command_name, work_exchange

P = TypeVar("P", bound=Reply)

SEND_SECONDS = 7 * 24 * 3600


def topic(name: str) -> RabbitExchange:
    """An exchange that is there already."""
    return RabbitExchange(name, type=ExchangeType.TOPIC, declare=False)


def make_broker(amqp_url: str, prefetch: int) -> RabbitBroker:
    """A connection that comes back by itself, and raises where nobody takes what it publishes."""
    channel = Channel(prefetch_count=prefetch, on_return_raises=True)
    return RabbitBroker(amqp_url, default_channel=channel, logger=None, timeout=5, reconnect_interval=1)


async def as_bytes(message: RabbitMessage) -> bytes:
    """A decoder that leaves the body alone."""
    return message.body


class Asker:
    """Sends commands to other services, with or without waiting for the answer."""

    def __init__(self, service: str, amqp_url: str, signer: Signer) -> None:
        self.service = service
        self._url, self._signer = amqp_url, signer
        self._reply_to = f"{REPLIES}.{service}.{new_id().hex}"
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._broker: RabbitBroker | None = None
        self._starting = asyncio.Lock()
        self._connected = True

    async def ask(
        self, command: Command, to_service: str, reply: type[P], *, timeout: float = 10, caller: Caller | None = None
    ) -> P:
        """Send a command and wait for its answer, which may be a refusal; UnavailableError when none comes."""
        number = str(new_id())
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._publish(command, to_service, caller, seconds=timeout, number=number, answered=True)
                return reply.model_validate_json(await answer)
        except TimeoutError as error:
            raise UnavailableError(f"{to_service} did not answer.", retry_after_seconds=2) from error
        finally:
            self._waiting.pop(number, None)

    async def send(self, command: Command, to_service: str, *, caller: Caller, seconds: float = SEND_SECONDS) -> None:
        """Leave a command with the broker: done once, before its deadline. UnavailableError if it can't be left."""
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                number = str(new_id())
                await self._publish(command, to_service, caller, seconds=seconds, number=number, answered=False)
        except TimeoutError as error:
            raise UnavailableError("The broker does not answer.", retry_after_seconds=2) from error

    @property
    def connected(self) -> bool:
        """Did the broker answer when last asked? True before the first command."""
        return self._connected

    async def close(self) -> None:
        """Let the connection go; the next command opens another one."""
        broker, self._broker = self._broker, None
        if broker:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await broker.stop()

    async def _publish(
        self, command: Command, to_service: str, caller: Caller | None, *, seconds: float, number: str, answered: bool
    ) -> None:
        caller = caller or Caller.system(NOBODY, f"{self.service}.asks")
        body = command.json_bytes()
        header = grant(self._signer, self.service, caller, command.type, body, seconds=seconds)
        try:
            broker = await self._started()
            await broker.publish(
                body, exchange=topic(work_exchange(to_service)), routing_key=command_name(type(command)),
                persist=True, message_id=number, correlation_id=number, message_type=command.type,
                reply_to=self._reply_to if answered else None, content_type="application/json",
                headers={"grant": header, "attempt": 1},
            )  # fmt: skip
            self._connected = True
        except (AMQPError, OSError, RuntimeError) as error:
            self._connected = isinstance(error, DeliveryError)
            if not self._connected:
                await self.close()  # an error may have closed the channel; the next command opens a new one
            raise UnavailableError(
                f"{command.type} could not be sent to {to_service}.", retry_after_seconds=2
            ) from error

    async def _started(self) -> RabbitBroker:
        async with self._starting:
            if self._broker is None:
                broker = make_broker(self._url, prefetch=100)
                queue = RabbitQueue(
                    self._reply_to, exclusive=True, auto_delete=True, durable=False, routing_key=self._reply_to
                )
                broker.subscriber(
                    queue, topic(REPLIES), ack_policy=AckPolicy.ACK_FIRST, no_reply=True, decoder=as_bytes
                )(self._on_reply)
                await broker.start()
                self._broker = broker
        return self._broker

    async def _on_reply(self, message: RabbitMessage) -> None:
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting and not waiting.done():
            waiting.set_result(message.body)


def ask_by(asker: Asker) -> Ask:
    """How fact loops ask a producer for missing facts."""

    async def ask(producer: str, first: int, last: int) -> FactsResent:
        return await asker.ask(ResendFacts(first=first, last=last), producer, FactsResent)

    return ask


def restate_by(asker: Asker) -> Callable[[str, str], Awaitable[RowsRestated]]:
    """How fact loops ask a producer to say how things are now; UnavailableError when it will not."""

    async def ask(producer: str, noun: str) -> RowsRestated:
        reply = await asker.ask(RestateRows(noun=noun), producer, RowsRestated, timeout=60)
        if reply.refused:
            raise UnavailableError(f"{producer} does not restate {noun}: {reply.refused} {reply.detail}")
        return reply

    return ask
