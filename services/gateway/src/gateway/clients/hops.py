"""The next hop: an ASGI callable. In one process it is the service itself; else this forwards over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDict
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from yarl import URL

from chassis.errors import TooLargeError, UnavailableError
from chassis.telemetry import logger

CONNECT_SECONDS = 2
SILENCE_SECONDS = 120
"""Between two bytes of an answer: the longest `Prefer: wait` is 60 s, an event stream has a heartbeat every 15 s."""
SMALL_BYTES = 64 * 1024
"""A body up to this size is read before it is sent on; a larger one streams."""
HOP_HEADERS = frozenset((
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
))  # fmt: skip
"""Headers that are about one connection, not about the request."""

Headers = Sequence[tuple[bytes, bytes]]
log = logger(part="edge")


class LeftError(Exception):
    """The caller is gone: there is nobody to answer."""


class HttpHop:
    """A service in another process, over pooled connections; bodies stream both ways."""

    def __init__(self, service: str, url: str) -> None:
        self._service, self._url = service, url
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: pass one request on; UnavailableError when the service does not answer."""
        with suppress(LeftError):
            await self._pass_on(scope, receive, send)

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        query, length = scope["query_string"], _length(scope["headers"])
        path = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        body = _Body(receive, scope["remit.limit_bytes"])
        given: bytes | AsyncIterator[bytes] | None = None
        if scope["remit.chunked"] or length > SMALL_BYTES:
            given = body.stream()
        elif length:
            given = await body.whole()
        try:
            answer = await self._open().request(
                scope["method"],
                URL(self._url + path.decode("latin-1"), encoded=True),
                headers=_outgoing(scope["headers"]),
                data=given,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise body.stopped or self._silent(error) from error
        async with answer:
            await _relay(answer, receive, send)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Less than the 30 s after which the other end closes an idle connection: never reuse a closing one.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    def _silent(self, error: Exception) -> UnavailableError:
        log.warning("next hop does not answer", service=self._service, error=type(error).__name__)
        return silent_hop(self._service)


def silent_hop(service: str) -> UnavailableError:
    """The refusal for a service that cannot be reached."""
    return UnavailableError(f"The {service} service does not answer right now.", code="hop_down", retry_after_seconds=1)


def _outgoing(headers: Headers) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name != b"host")


class _Body:
    """What the caller sends, as it comes; remembers why it stopped, because the HTTP client would not say."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self.stopped: TooLargeError | LeftError | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        seen, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.stopped = LeftError()
                raise self.stopped
            chunk = message.get("body", b"")
            seen += len(chunk)
            if seen > self._limit:
                self.stopped = TooLargeError(f"The request is above the limit of {self._limit} bytes.")
                raise self.stopped
            more = message.get("more_body", False)
            if chunk:
                yield chunk

    async def whole(self) -> bytes:
        return b"".join([chunk async for chunk in self.stream()])


def _length(headers: Headers) -> int:
    return next((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


async def _relay(answer: aiohttp.ClientResponse, receive: Receive, send: Send) -> None:
    headers = [(name.lower(), value) for name, value in answer.raw_headers]
    kept = [(name, value) for name, value in headers if name not in HOP_HEADERS and name != b"date"]
    await send({"type": "http.response.start", "status": answer.status, "headers": kept})
    length = answer.content_length
    if length is not None and length <= SMALL_BYTES:
        await send({"type": "http.response.body", "body": await answer.read()})
        return
    await _stream_on(answer, receive, send)


async def _stream_on(answer: aiohttp.ClientResponse, receive: Receive, send: Send) -> None:
    """Until the answer ends or the caller leaves, which only `receive` tells: there may be nothing to send for long."""

    async def copy() -> None:
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    copying, leaving = asyncio.create_task(copy()), asyncio.create_task(leave())
    try:
        await asyncio.wait({copying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if copying.done():
            await copying
    finally:
        copying.cancel()
        leaving.cancel()
        await asyncio.gather(copying, leaving, return_exceptions=True)
        if not answer.content.at_eof():
            answer.close()


@dataclass(frozen=True)
class Reply:
    """A service's whole answer."""

    status: int
    headers: Headers
    body: bytes


async def ask_hop(hop: ASGIApp, path: str, query: str, headers: Headers) -> Reply:
    """GET from a service what the edge itself needs."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": list(headers), "client": None, "server": None, "state": {}, "remit.limit_bytes": 0,
        "remit.chunked": False,
    }  # fmt: skip
    first: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    started: Mapping[str, Any] = {}
    chunks: list[bytes] = []

    async def receive() -> Message:
        if first:
            return first.pop()
        await asyncio.Event().wait()  # nobody leaves: the asker waits until the end
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal started
        if message["type"] == "http.response.start":
            started = message
        else:
            chunks.append(message.get("body", b""))

    await hop(scope, receive, send)
    return Reply(started["status"], started.get("headers", ()), b"".join(chunks))
