"""What the edge says to anybody: what this is, its API document, and whether it can serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp

from chassis.errors import NotFoundError, RefusalError
from gateway.api.edge_requests import Request
from gateway.clients.hops import Headers, ask_hop, silent_hop
from gateway.domain.openapi import merge

_NULLABLE = {"type": "null"}
_PARTS = {
    "run": {"type": "object"},
    "trigger": {"type": "object"},
    "caller": {"type": "object"},
    "decision": {"type": "object"},
    "approvals": {"anyOf": [{"type": "array", "items": {"type": "object"}}, _NULLABLE]},
    "version": {"type": "object"},
    "steps": {"type": "array", "items": {"type": "object"}},
    "children": {
        "type": "array",
        "items": {"type": "object"},
        "description": "The runs that its steps are, each with what its own steps have used.",
    },
    "costs": {"anyOf": [{"type": "array", "items": {"type": "object"}}, _NULLABLE]},
    "audit_entries": {"anyOf": [{"type": "array", "items": {"type": "object"}}, _NULLABLE]},
    "trace_id": {"anyOf": [{"type": "string"}, _NULLABLE]},
    "pending": {"type": "array", "items": {"type": "string"}, "description": "Parts that are not whole yet."},
    "withheld": {"type": "array", "items": {"type": "string"}, "description": "Parts this caller may not see."},
}
EXPLANATION: dict[str, Any] = {
    "description": "Everything that is known of the run, from every service.",
    "content": {
        "application/json": {"schema": {"type": "object", "properties": _PARTS, "required": list(_PARTS)}},
    },
}


@dataclass
class OpenRoutes:
    """The routes that need no key."""

    hops: Mapping[str, ASGIApp]
    require_fresh: Callable[[], Awaitable[None]]
    version: str
    _document: bytes = field(default=b"", init=False)

    async def answer(self, request: Request) -> Response:
        """The answer of an open route; NotFoundError for any other path."""
        routes: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/": self._root, "/openapi.json": self._openapi, "/healthz": self._healthz, "/readyz": self._readyz,
        }  # fmt: skip
        route = routes.get(request.path)
        if route is None or request.method not in ("GET", "HEAD"):
            raise NotFoundError("There is no such route.")
        return await route(request)

    async def _root(self, _: Request) -> Response:
        says = {
            "name": "Remit",
            "version": self.version,
            "api": "/v1",
            "openapi": "/openapi.json",
            "authentication": "Authorization: Bearer <key>",
        }
        return Response(orjson.dumps(says), media_type="application/json")

    async def _healthz(self, _: Request) -> Response:
        return Response(b'{"alive":true}', media_type="application/json")

    async def _readyz(self, _: Request) -> Response:
        """Ready is who can recognise a caller: its database answers, and identity has not been silent for long."""
        try:
            async with asyncio.timeout(2):
                await self.require_fresh()
        except (RefusalError, TimeoutError) as error:
            reason = error.code if isinstance(error, RefusalError) else "timeout"
            return Response(orjson.dumps({"ready": False, "reason": reason}), 503, media_type="application/json")
        return Response(b'{"ready":true}', media_type="application/json")

    async def _openapi(self, request: Request) -> Response:
        if not self._document:
            services = list(self.hops)
            found = await asyncio.gather(*(_document_of(each, self.hops[each], request.onward) for each in services))
            documents = dict(zip(services, found, strict=True))
            self._document = orjson.dumps(merge(documents, self.version, EXPLANATION))
        return Response(self._document, media_type="application/json", headers={"Cache-Control": "max-age=300"})


async def _document_of(service: str, hop: ASGIApp, headers: Headers) -> dict[str, Any]:
    about = [(name, value) for name, value in headers if name in (b"traceparent", b"x-correlation-id")]
    reply = await ask_hop(hop, "/openapi.json", "", about)
    if reply.status != 200:
        raise silent_hop(service)
    document: dict[str, Any] = orjson.loads(reply.body)
    return document
