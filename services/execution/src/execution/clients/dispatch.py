"""Which runs are to be worked on: 42 bytes per run on a private quorum queue, published and acknowledged in batches.

aio-pika and aiormq write and drain one frame at a time; a batch in one write is 1.6 times the runs per second. What is
used of aiormq below its public methods (`Channel.lock`, `delivery_tag`, `confirmations`, `create_future`,
`write_queue`, `ChannelFrame`) is pinned by a contract test.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self
from uuid import UUID

import aiormq
import pamqp.frame
import pamqp.header
from aiormq.abc import ChannelFrame, DeliveredMessage
from pamqp import commands

from chassis.errors import UnavailableError

QUEUE = "engine.runs"
DELIVERY_LIMIT = 20
"""A run's message that brought this many workers down is dropped; the lease's reaper still finds the run."""
QUEUE_LIMIT = 100_000
"""Of the broker's: what admission and reapers together never come near."""
CONFIRM_SECONDS = 10.0
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 2.0

_BODY = struct.Struct(">16sh16sq")
_FRAME = struct.Struct(">BHI")
_ANSWER = struct.Struct(">BHIHHQBB")
"""A method frame of class 60: 80 acknowledges, 90 rejects; the last octet but one is `multiple` or `requeue`."""
_END = b"\xce"


class Dispatch(NamedTuple):
    """A run to work on: the whole key of its row, and in `token` what the row held when it was dispatched."""

    organization_id: UUID
    retention_class: int
    run_id: UUID
    token: int

    def to_bytes(self) -> bytes:
        """Its 42 bytes."""
        return _BODY.pack(self.organization_id.bytes, self.retention_class, self.run_id.bytes, self.token)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """The dispatch in these bytes; ValueError when they are none."""
        if len(body) != _BODY.size:
            raise ValueError(f"a dispatch has {_BODY.size} bytes, not {len(body)}")
        organization_id, retention_class, run_id, token = _BODY.unpack(body)
        return cls(UUID(bytes=organization_id), retention_class, UUID(bytes=run_id), token)


class Delivery(NamedTuple):
    """A message in our hands until `done` or `back` is called on the line it came by."""

    dispatch: Dispatch
    redelivered: bool
    tag: int
    line: Line

    def done(self) -> None:
        """Its run needs this message no more."""
        self.line.done(self.tag)

    def back(self) -> None:
        """Somebody has to take this run again."""
        self.line.back(self.tag)


class Line:
    """One connection to the queue, of use until `lost` is set; then open another."""

    def __init__(self, connection: Any, channel: Any, queue: str) -> None:
        self._connection, self._channel, self._queue = connection, channel, queue
        self._answers: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.lost = asyncio.Event()
        for part in (connection, channel):
            part.closing.add_done_callback(lambda _: self.lost.set())
        # An exchange of its own: whoever may write the broker's default exchange reaches every service's queues.
        routing = commands.Basic.Publish(exchange=queue, routing_key=queue)
        persistent = pamqp.header.ContentHeader(
            body_size=_BODY.size, properties=commands.Basic.Properties(delivery_mode=2)
        )
        # The same for every message: method frame, content header, and the start of the body's frame.
        self._head = (
            pamqp.frame.marshal(routing, channel.number)
            + pamqp.frame.marshal(persistent, channel.number)
            + _FRAME.pack(3, channel.number, _BODY.size)
        )

    @classmethod
    async def open(cls, amqp_url: str, *, queue: str = QUEUE, prefetch: int = 0) -> Self:
        """Connect and declare the queue; UnavailableError when the broker does not answer."""
        connection: Any = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await aiormq.connect(amqp_url)
                channel = await connection.channel(publisher_confirms=True)
                await channel.exchange_declare(queue, exchange_type="direct", durable=True)
                await channel.queue_declare(queue, durable=True, arguments=_arguments())
                await channel.queue_bind(queue, exchange=queue, routing_key=queue)
                if prefetch:
                    await channel.basic_qos(prefetch_count=prefetch)
        except (OSError, TimeoutError, aiormq.exceptions.AMQPError) as error:
            if connection is not None:
                await connection.close()
            raise UnavailableError("The broker does not answer.", retry_after_seconds=1) from error
        return cls(connection, channel, queue)

    async def close(self) -> None:
        """Hang up: what was not acknowledged goes to somebody else."""
        if not self.lost.is_set():
            # What was acknowledged is to be with the broker before we go.
            drained = self._loop.create_future()
            frame = ChannelFrame(payload=b"".join(self._answers), should_close=False, drain_future=drained)
            self._answers.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._channel.write_queue.put(frame)
                    await drained
        self.lost.set()
        await self._connection.close()

    async def consume(self, take: Callable[[Delivery], None]) -> None:
        """Hand every message to `take`, which must return at once."""

        async def deliver(message: DeliveredMessage) -> None:
            tag = message.delivery_tag or 0
            try:
                dispatch = Dispatch.of(bytes(message.body))
            except ValueError:
                self.done(tag)
                return
            take(Delivery(dispatch, bool(message.redelivered), tag, self))

        await self._channel.basic_consume(self._queue, deliver)

    async def publish(self, dispatches: Sequence[Dispatch]) -> list[bool]:
        """Publish all in one write and wait for the broker; returns which are safely there."""
        if not dispatches or self.lost.is_set():
            return [False] * len(dispatches)
        channel = self._channel
        confirms = []
        async with channel.lock:
            for _ in dispatches:
                channel.delivery_tag += 1
                confirm = channel.create_future()
                channel.confirmations[channel.delivery_tag] = confirm
                confirms.append(confirm)
            payload = b"".join([self._head + dispatch.to_bytes() + _END for dispatch in dispatches])
            await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
        _, late = await asyncio.wait(confirms, timeout=CONFIRM_SECONDS)
        for confirm in late:
            confirm.cancel()
        return [confirm not in late and not confirm.cancelled() and confirm.exception() is None for confirm in confirms]

    async def waiting(self) -> int:
        """How many messages lie on the queue because every worker's hands are full."""
        async with asyncio.timeout(CONFIRM_SECONDS):
            found = await self._channel.queue_declare(self._queue, passive=True)
        return found.message_count or 0

    def done(self, tag: int) -> None:
        """Acknowledge a message, in one write with all others of this turn of the loop."""
        self._answer(_ANSWER.pack(1, self._channel.number, 13, 60, 80, tag, 0, 0xCE))

    def back(self, tag: int) -> None:
        """Return a message to the queue."""
        self._answer(_ANSWER.pack(1, self._channel.number, 13, 60, 90, tag, 1, 0xCE))

    def _answer(self, frame: bytes) -> None:
        if not self._answers:
            self._loop.call_soon(self._flush)
        self._answers.append(frame)

    def _flush(self) -> None:
        if not self._answers or self.lost.is_set():
            self._answers.clear()
            return
        try:
            self._channel.write_queue.put_nowait(ChannelFrame(payload=b"".join(self._answers), should_close=False))
            self._answers.clear()
        except asyncio.QueueFull:  # the socket is slower than we are
            self._loop.call_later(0.001, self._flush)


def _arguments() -> dict[str, Any]:
    return {
        "x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": QUEUE_LIMIT, "x-overflow": "reject-publish",
    }  # fmt: skip
