"""The way out of libraries that bring an HTTP client: every request goes through the one outbound client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx2

from chassis.outbound import OutboundClient, OutboundFailedError, OutboundRefusedError, OutboundStream

FAREWELL_SECONDS = 1.0
# All else that the libraries add (the operator's organization from the environment, facts about this machine) stays.
SENT_HEADERS = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type", "last-event-id"})
SENT_PREFIX = "mcp-"


class OutboundTransport(httpx2.AsyncBaseTransport):
    """Sends one call's requests under the outbound rules, with the stored key, and remembers how it failed.

    `seconds` bound all of them together. Nobody listens to what a server might say unasked. A library whose own tasks
    would take everybody along when a request fails is not `told`: it is answered with an error, or with half a body.
    """

    def __init__(
        self,
        outbound: OutboundClient,
        *,
        seconds: float,
        traceparent: str,
        own: Mapping[str, str],
        is_told: bool = True,
    ) -> None:
        self.failure: OutboundFailedError | OutboundRefusedError | None = None
        self.status = 0
        """What the last request was answered with."""
        self.headers: Mapping[str, str] = {}
        self._outbound = outbound
        self._end = asyncio.get_running_loop().time() + seconds
        self._traceparent = traceparent
        self._own = {"User-Agent": "remit", **own}
        self.is_told = is_told

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The endpoint's answer, read as it arrives."""
        if request.method == "GET" and "last-event-id" not in request.headers:
            return httpx2.Response(405)
        headers = {name: value for name, value in request.headers.items() if _is_sent(name.lower())}
        try:
            stream = await self._outbound.open(
                request.method,
                str(request.url),
                headers=headers | self._own,
                body=await request.aread(),
                seconds=self._seconds(request.method),
                traceparent=self._traceparent,
            )
        except (OutboundFailedError, OutboundRefusedError) as error:
            self.failure = self.failure or error
            if not self.is_told:
                return httpx2.Response(503)
            raise httpx2.ConnectError(error.code, request=request) from error
        if request.method != "DELETE":
            self.status, self.headers = stream.status, stream.headers
        return httpx2.Response(stream.status, headers=list(stream.headers.items()), stream=_Body(stream, self))

    def _seconds(self, method: str) -> float:
        left = self._end - asyncio.get_running_loop().time()
        if left <= 0:
            raise OutboundFailedError("timeout", retryable=True)
        # Ending a session is a courtesy that neither an answer nor a cancel waits for.
        return min(left, FAREWELL_SECONDS) if method == "DELETE" else left


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: OutboundStream, transport: OutboundTransport) -> None:
        self._stream = stream
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream.chunks():
                yield chunk
        except OutboundFailedError as error:
            self._transport.failure = self._transport.failure or error
            if self._transport.is_told:
                raise httpx2.ReadError(error.code) from error

    async def aclose(self) -> None:
        self._stream.close()


def _is_sent(name: str) -> bool:
    return name in SENT_HEADERS or name.startswith(SENT_PREFIX)
