"""The model library's way out: its HTTP client hands every request to the one outbound client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2

from chassis.outbound import OutboundClient, OutboundFailedError, OutboundRefusedError, OutboundStream

# All else that the libraries add (the operator's organization from the environment, facts about this machine) stays.
SENT_HEADERS = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type"})


class OutboundTransport(httpx2.AsyncBaseTransport):
    """Sends one call's requests under the outbound rules, with the stored key, and remembers how it failed."""

    def __init__(self, outbound: OutboundClient, *, seconds: float, traceparent: str, own: Mapping[str, str]) -> None:
        self.failure: OutboundFailedError | OutboundRefusedError | None = None
        self._outbound = outbound
        self._seconds = seconds
        self._traceparent = traceparent
        self._own = {"User-Agent": "remit", **own}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the model's endpoint, read as it arrives."""
        headers = {name: value for name, value in request.headers.items() if name.lower() in SENT_HEADERS}
        try:
            stream = await self._outbound.open(
                request.method,
                str(request.url),
                headers=headers | self._own,
                body=await request.aread(),
                seconds=self._seconds,
                traceparent=self._traceparent,
            )
        except (OutboundFailedError, OutboundRefusedError) as error:
            self.failure = error
            raise httpx2.ConnectError(error.code, request=request) from error
        return httpx2.Response(stream.status, headers=list(stream.headers.items()), stream=_Body(stream, self))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: OutboundStream, transport: OutboundTransport) -> None:
        self._stream = stream
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream.chunks():
                yield chunk
        except OutboundFailedError as error:
            self._transport.failure = error
            raise httpx2.ReadError(error.code) from error

    async def aclose(self) -> None:
        self._stream.close()
