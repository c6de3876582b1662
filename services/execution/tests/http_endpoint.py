from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web


class Endpoint:
    """Somebody's agent: a real HTTP server with one answer."""

    def __init__(self) -> None:
        self.answer: Any = {"output": "done"}
        self.status = 200
        self.delay_seconds = 0.0
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        await asyncio.sleep(self.delay_seconds)
        body = self.answer if isinstance(self.answer, bytes) else orjson.dumps(self.answer)
        return web.Response(status=self.status, body=body, headers={"Retry-After": "2"})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/agent"

    def config(self, more: str = "", *, credential: str = "") -> str:
        """An agent that is this."""
        key = f", credential: {credential}" if credential else ""
        http = f'{{url: "{self.url}", headers: {{X-Team: blue}}, timeout: 5s{key}}}'
        return f"apiVersion: agent/v1\nkind: http\nhttp: {http}\n{more}"


@asynccontextmanager
async def http_endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/agent", endpoint.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.port = runner.addresses[0][1]
    try:
        yield endpoint
    finally:
        await runner.cleanup()
