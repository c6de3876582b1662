"""What may be lost, from process to process: transient messages by the exchange `live`, to whoever listens now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from chassis.ids import new_id
from spine.stream import keep_running
from spine.topology import LIVE, REPLIES

CONNECT_SECONDS = 5.0
BEHIND = 1_000
"""Messages that wait to be sent; what comes on top is lost."""
PAUSE_SECONDS = 1.0


class LiveLine:
    """One connection: hears what is published under its key, and publishes to others'. Nothing is kept or repeated."""

    def __init__(
        self, amqp_url: str, name: str, take: Callable[[bytes], None], on_open: Callable[[], None] = lambda: None
    ) -> None:
        self._url, self._name, self._take, self._on_open = amqp_url, name, take, on_open
        self._waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(BEHIND)
        self.opened = asyncio.Event()

    @property
    def behind(self) -> int:
        """How many messages wait to be sent."""
        return self._waiting.qsize()

    def publish(self, key: str, body: bytes) -> None:
        """Tell whoever listens under this key; lost where there is no connection now, or too much waits for it."""
        if self.opened.is_set() and not self._waiting.full():
            self._waiting.put_nowait((key, body))

    async def run(self, key: str) -> None:
        """Listen under a key, and send, until cancelled."""
        await keep_running(lambda: self._live(key), f"execution.{self._name}", pause=lambda _: PAUSE_SECONDS)

    async def _live(self, key: str) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection: Any = await aiormq.connect(self._url)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                channel = await connection.channel(publisher_confirms=False)
                await self._listen(channel, key)
            self.opened.set()
            self._on_open()
            sending = asyncio.create_task(self._send(channel))
            lost = [sending, connection.closing, channel.closing]
            try:
                await asyncio.wait(lost, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in lost:
                    each.cancel()
            raise ConnectionError("the broker hung up")
        finally:
            self.opened.clear()
            while not self._waiting.empty():
                self._waiting.get_nowait()
            await connection.close()

    async def _listen(self, channel: Any, key: str) -> None:
        # A service may declare no other queues than those of its replies.
        queue = f"{REPLIES}.execution.{self._name}.{new_id().hex}"
        await channel.queue_declare(queue, exclusive=True, auto_delete=True, arguments={"x-max-length": BEHIND})
        await channel.queue_bind(queue, exchange=LIVE, routing_key=key)

        async def deliver(message: DeliveredMessage) -> None:
            self._take(bytes(message.body))

        await channel.basic_consume(queue, deliver, no_ack=True)

    async def _send(self, channel: Any) -> None:
        transient = Basic.Properties(delivery_mode=1)
        while True:
            key, body = await self._waiting.get()
            await channel.basic_publish(body, exchange=LIVE, routing_key=key, properties=transient)
