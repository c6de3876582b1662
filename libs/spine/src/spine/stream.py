"""A connection to RabbitMQ streams that dies as a whole, together with the database connection of whoever uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import asyncpg
import rstream.connection
from rstream import schema
from rstream.client import Client
from rstream.exceptions import StreamAlreadyExists

from chassis.telemetry import logger

rstream.connection.CHUNK_SIZE = 256 * 1024  # its own 256 bytes a read cost more than everything else together

DATABASE_SECONDS = 5
CONNECT_SECONDS = 3
PROBE_SECONDS = 5


class LostError(ConnectionError):
    """A connection, the stream or its confirms are gone: drop everything and start over."""


def stream_of(service: str) -> str:
    """The stream of a producer: `facts.<service>`."""
    return f"facts.{service}"


@dataclass(frozen=True)
class StreamPlace:
    """A broker's stream door: `rabbitmq-stream://user:password@host:port/vhost`."""

    host: str
    port: int
    user: str
    password: str
    vhost: str = "/"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the URL; ValueError when it is another kind."""
        parts = urlsplit(url)
        if parts.scheme != "rabbitmq-stream" or not parts.hostname:
            raise ValueError("a stream URL looks like rabbitmq-stream://user:password@host:5552/")
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        return cls(parts.hostname, parts.port or 5552, user, password, unquote(parts.path[1:]) or "/")


class Link:
    """A stream connection, and for whom it wants one a database connection, that live and die together.

    Use as `async with`. Whatever dies, the block is left with LostError, wherever it is waiting.
    """

    client: Client
    database: asyncpg.Connection[asyncpg.Record]

    def __init__(
        self, place: StreamPlace, name: str, streams: tuple[str, ...], *, dsn: str = "", lock: str = ""
    ) -> None:
        self._place, self._name, self._streams, self._dsn, self._lock = place, name, streams, dsn, lock
        self._why = ""
        self._task: asyncio.Task[object] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._opened: list[Callable[[], Awaitable[object] | None]] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        try:
            if self._dsn:
                await self._open_database()
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._open_stream()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        self._probe = asyncio.create_task(self._keep_probing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None  # from here on nothing may fail: closing looks like losing
        await self._close()
        if self._why and task and task.uncancel() == 0 and error is not None:
            raise LostError(self._why) from error

    def fail(self, why: str) -> None:
        """Something is gone: wake whoever works inside the block. Safe from any callback."""
        if not self._why and self._task:
            self._why = why
            self._task.cancel()

    def check(self) -> None:
        """LostError if something is gone; for loops, because a library may swallow the wake-up."""
        if self._why:
            raise LostError(self._why)

    async def _open_database(self) -> None:
        self.database = await asyncpg.connect(
            self._dsn, timeout=DATABASE_SECONDS, command_timeout=30,
            server_settings={"application_name": self._name, "idle_session_timeout": "10000"},
        )  # fmt: skip
        self._opened.append(self.database.terminate)
        self.database.add_termination_listener(lambda _: self.fail("database connection closed"))
        # Try and sleep: a session that waits in pg_advisory_lock holds a snapshot and stops vacuum everywhere.
        while self._lock and not await self.database.fetchval(
            "select pg_try_advisory_lock(hashtextextended($1, 0))", self._lock
        ):
            await asyncio.sleep(0.5)
            self.check()

    async def _open_stream(self) -> None:
        place = self._place
        self.client = Client(
            place.host, place.port, frame_max=1 << 20, heartbeat=10, connection_name=self._name,
            connection_closed_handler=lambda _: self.fail("stream connection closed"),
        )  # fmt: skip
        self._opened.append(self._close_stream)
        for stream in self._streams:
            self.client.add_stream(stream)  # without one, rstream does not call the handler
        self.client.add_handler(schema.MetadataUpdate, lambda _: self.fail("stream deleted or moved"), "link")
        self.client.add_handler(schema.Close, lambda _: self.fail("closed by the broker"), "link")
        await self.client.start()
        await self.client.authenticate(place.vhost, place.user, place.password)

    async def _close_stream(self) -> None:
        try:
            async with asyncio.timeout(2):
                await self.client.close()
        finally:
            # The library leaves the socket open when the broker closed first, or when its closing is interrupted.
            connection = self.client._conn  # noqa: SLF001
            if connection is not None and connection._writer is not None:  # noqa: SLF001
                connection._writer.transport.abort()  # noqa: SLF001

    async def _close(self) -> None:
        if self._probe:
            self._probe.cancel()
        for close in self._opened:
            # The database first and at once: with its session the server frees the lock.
            with contextlib.suppress(Exception):
                if (closing := close()) is not None:
                    await closing

    async def _keep_probing(self) -> None:
        """A frozen broker, a dead reader and a deleted stream all leave the socket open: only asking shows it."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            for stream in self._streams:
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        alive = await self.client.stream_exists(stream)
                except Exception:  # noqa: BLE001  (whatever it is, the answer did not come)
                    alive = False
                if not alive:
                    self.fail(f"no answer about {stream}")
                    return


async def create_stream(client: Client, stream: str) -> None:
    """Create a stream if it is missing. Its size and age are the operator's policy, not arguments."""
    with contextlib.suppress(StreamAlreadyExists):
        await client.create_stream(stream)


async def keep_running(life: Callable[[], Awaitable[None]], name: str, *, pause: Callable[[Exception], float]) -> None:
    """Live again and again: every failure ends a life, and there is no other repair."""
    log = logger(loop=name)
    while True:
        try:
            await life()
        except Exception as error:  # noqa: BLE001  (what it was decides only how long to wait)
            log.warning("starts_over", error=type(error).__name__, reason=str(error)[:200])
            await asyncio.sleep(pause(error))
