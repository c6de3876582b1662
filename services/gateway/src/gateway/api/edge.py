"""The edge: the one public door. A bare ASGI app, because every request of the platform passes through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from opentelemetry.trace import SpanKind
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.auth import TokenIssuer
from chassis.errors import NotFoundError, RefusalError, TooLargeError, UnauthenticatedError
from chassis.problems import problem
from chassis.telemetry import REQUESTS, current_traceparent, logger, new_traceparent, span
from gateway.api.edge_cors import Cors
from gateway.api.edge_explain import explain_run
from gateway.api.edge_open import OpenRoutes
from gateway.api.edge_requests import Exchange, Request
from gateway.clients.hops import silent_hop
from gateway.domain.routing import explained_run, is_emergency, limit_of, service_of
from gateway.usecases.callers import CallerBook, KnownCaller

log = logger(part="edge")
_NO_ROUTE = "There is no such route."
_WHO = "Say who you are: Authorization: Bearer <key>."


@dataclass
class Edge:
    """Lets a caller in, counts it, and hands the request on with an internal token instead of the key."""

    hops: Mapping[str, ASGIApp]
    issuer: TokenIssuer
    callers: CallerBook
    cors: Cors
    open_routes: OpenRoutes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        exchange = Exchange(scope, receive, send, self.cors.headers)
        request = exchange.request
        with span("edge", service="gateway", traceparent=request.traceparent, kind=SpanKind.SERVER) as current:
            request.traceparent = current_traceparent(request.traceparent) or new_traceparent()
            _correlate(request)
            try:
                await self._serve(exchange, request)
            except Exception as error:  # noqa: BLE001  (the last door: nothing may leave without an answer)
                await _refuse(exchange, error)
            current.set_attribute("http.response.status_code", exchange.status)
        service = service_of(request.path) or "edge"
        REQUESTS.labels("edge", service, str(exchange.status)).observe(time.perf_counter() - began)

    async def _serve(self, exchange: Exchange, request: Request) -> None:
        path = request.path
        if request.method == "OPTIONS":
            await self._answer_options(exchange, request)
            return
        if not path.startswith("/v1/"):
            await exchange.answer(await self.open_routes.answer(request))
            return
        known = await self._admit(request)
        service = service_of(path)
        if service is None:
            raise NotFoundError(_NO_ROUTE)
        hop = self.hops.get(service)
        if hop is None:
            raise silent_hop(service)
        run_id = explained_run(path)
        if run_id is not None and request.method in ("GET", "HEAD"):
            onward = partial(self._onward, request, known)
            await exchange.answer(await explain_run(run_id, self.hops, onward))
            return
        await _hand_on(hop, self._onward(request, known, service), exchange)

    async def _admit(self, request: Request) -> KnownCaller:
        if not request.key:
            raise UnauthenticatedError(_WHO)
        known = await self.callers.holder(request.key, even_stale=is_emergency(request.method, request.path))
        try:
            self.callers.admit(known)
        finally:
            rate, left = known.key_rate, int(known.bucket.left)
            request.extra += (
                (b"ratelimit-policy", b'"key";q=%d;w=1' % rate),
                (b"ratelimit", b'"key";r=%d;t=%d' % (left, 0 if left else 1)),
            )
        return known

    def _onward(self, request: Request, known: KnownCaller, audience: str) -> list[tuple[bytes, bytes]]:
        token = self.issuer.issue(known.caller, audience)
        return [*request.onward, (b"authorization", b"Bearer " + token.encode())]

    async def _answer_options(self, exchange: Exchange, request: Request) -> None:
        if request.is_preflight:
            request.extra += self.cors.preflight(request.origin)
        allow = {"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
        await exchange.answer(Response(status_code=204, headers=allow))


def _correlate(request: Request) -> None:
    """What belongs to one another carries one word: the caller's, else the trace's id."""
    correlation = (b"x-correlation-id", (request.correlation_id or request.traceparent[3:35]).encode())
    request.onward += [(b"traceparent", request.traceparent.encode()), correlation]
    request.extra.append(correlation)


async def _hand_on(hop: ASGIApp, headers: list[tuple[bytes, bytes]], exchange: Exchange) -> None:
    request, limit = exchange.request, limit_of(exchange.request.path)
    if request.length > limit:
        raise TooLargeError(f"The request is above the limit of {limit} bytes.")
    inner = dict(exchange.scope)
    inner["headers"], inner["remit.limit_bytes"], inner["state"] = headers, limit, {}
    inner["remit.chunked"] = request.is_chunked
    if request.method == "HEAD":
        inner["method"] = "GET"
        await _head_only(hop, inner, exchange)
    else:
        await hop(inner, exchange.receive, exchange.send)


async def _refuse(exchange: Exchange, error: Exception) -> None:
    if exchange.started:
        raise error
    request = exchange.request
    if not isinstance(error, RefusalError):
        log.error("a request crashed at the edge", path=request.path[:200], error=repr(error)[:300])
        error = silent_hop(service_of(request.path) or "gateway")
    if isinstance(error, UnauthenticatedError):
        request.extra.append((b"www-authenticate", b"Bearer"))
    await exchange.answer(problem(error, request.traceparent))


async def _head_only(hop: ASGIApp, scope: Scope, exchange: Exchange) -> None:
    """Ask as GET and stop at the head: what would follow may be a stream without an end."""
    begun = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await exchange.send(message)
            begun.set()

    async def ask() -> None:
        await hop(scope, exchange.receive, send)

    asking, waiting = asyncio.create_task(ask()), asyncio.create_task(begun.wait())
    try:
        await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not begun.is_set():
            await asking
        await exchange.send({"type": "http.response.body", "body": b""})
    finally:
        asking.cancel()
        waiting.cancel()
        await asyncio.gather(asking, waiting, return_exceptions=True)
