"""`GET /v1/runs/{id}/explain`: one id, and everything that happened, from four services at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp

from chassis.errors import RefusalError
from chassis.telemetry import logger
from gateway.clients.hops import Headers, ask_hop
from gateway.domain.explaining import Part, compose

PART_SECONDS = 5
MAX_PAGES = 25
"""Of 200 items each, for each part: beyond them an explanation is no longer something to read."""

Onward = Callable[[str], Headers]
"""The headers of a request to a service, by its name."""
log = logger(part="edge")


async def explain_run(run_id: str, hops: Mapping[str, ASGIApp], onward: Onward) -> Response:
    """The explanation, or execution's own refusal unchanged."""
    account, approvals, usage, entries = await asyncio.gather(
        ask_hop(hops["execution"], f"/v1/runs/{quote(run_id)}/explain", "", onward("execution")),
        _part(hops, "policy", "/v1/approvals", {"run_id": run_id, "sort": "id"}, onward),
        _part(hops, "billing", "/v1/usage-events", {"run_id": run_id}, onward),
        _part(hops, "audit", "/v1/audit-entries", {"run_id": run_id, "order": "asc"}, onward),
    )
    if account.status != 200:
        return _as_it_came(account.status, account.headers, account.body)
    explanation = compose(orjson.loads(account.body), approvals, usage, entries)
    return Response(orjson.dumps(explanation), media_type="application/json")


async def _part(
    hops: Mapping[str, ASGIApp], service: str, path: str, query: Mapping[str, str], onward: Onward
) -> Part:  # fmt: skip
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await _pages(hops[service], path, {**query, "limit": "200"}, onward(service))
    except (RefusalError, TimeoutError, KeyError, RuntimeError) as error:
        log.warning("a part of an explanation is missing", service=service, error=type(error).__name__)
        return Part(is_here=False)


async def _pages(hop: ASGIApp, path: str, query: dict[str, str], headers: Headers) -> Part:
    items: list[Mapping[str, Any]] = []
    for _ in range(MAX_PAGES):
        reply = await ask_hop(hop, path, urlencode(query), headers)
        if reply.status != 200:
            return Part(is_here=False, is_withheld=reply.status == 403)
        page = orjson.loads(reply.body)
        items += page["items"]
        if not page.get("next_cursor"):
            break
        query["cursor"] = page["next_cursor"]
    return Part(items)


def _as_it_came(status: int, headers: Headers, body: bytes) -> Response:
    response = Response(body, status)
    response.raw_headers = [(name, value) for name, value in headers if name != b"transfer-encoding"]
    return response
