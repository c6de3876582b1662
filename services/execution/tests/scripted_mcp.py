"""A server of tools over real HTTP, of the kind that wants a handshake, which answers what a test wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

SESSION = "session-1"
SEARCH = {
    "name": "search",
    "description": "Finds documents.",
    "inputSchema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
    # One that only a patient or careless client would run over an answer.
    "outputSchema": {"type": "object", "properties": {"found": {"type": "string", "pattern": "^(a+)+$"}}},
}
OTHER = {"name": "remove", "description": "Removes all.", "inputSchema": {"type": "object"}}


@dataclass(frozen=True, slots=True)
class Said:
    """One answer to `tools/call`: a result, a JSON-RPC error, or whatever `status` and `body` say."""

    text: str | None = "found it"
    data: Any = None
    content: Any = None
    is_error: bool = False
    error_code: int | None = None
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    streamed: bool = False
    breaks_off: bool = False

    def message(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.error_code is not None:
            error = {"code": self.error_code, "message": "you sent a secret"}
            return {"jsonrpc": "2.0", "id": asked["id"], "error": error}
        texts = [] if self.text is None else [{"type": "text", "text": self.text}]
        result = {"content": self.content if self.content is not None else texts, "isError": self.is_error}
        if self.data is not None:
            result["structuredContent"] = self.data
        return {"jsonrpc": "2.0", "id": asked["id"], "result": result}


class ScriptedMcp:
    """Gives its answers in order, the last one for ever, and keeps every message it was sent."""

    def __init__(self) -> None:
        self.answers: list[Said] = [Said()]
        self.tools: list[dict[str, Any]] = [SEARCH, OTHER]
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.methods: list[str] = []
        self.called = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [message["params"] for message in self.messages if message["method"] == "tools/call"]

    async def handle(self, http: web.Request) -> web.StreamResponse:
        self.methods.append(http.method)
        self.headers.append({name.lower(): value for name, value in http.headers.items()})
        if http.method != "POST":
            return web.Response(status=200 if http.method == "DELETE" else 405)
        message = orjson.loads(await http.read())
        self.messages.append(message)
        match message["method"]:
            case "initialize":
                version = message["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}  # fmt: skip
                return web.json_response(_result(message, result), headers={"Mcp-Session-Id": SESSION})
            case "tools/list":
                return web.json_response(_result(message, {"tools": self.tools}))
            case "tools/call":
                return await self._call(http, message)
            case method if method.startswith("notifications/"):
                return web.Response(status=202)
        error = {"code": -32601, "message": "no such method"}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error}, status=400)

    async def _call(self, http: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        self.called.set()
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await asyncio.sleep(said.delay_seconds)
        if said.status != 200 or said.body is not None:
            return web.json_response(said.body or {}, status=said.status, headers=said.headers)
        if not said.streamed:
            return web.json_response(said.message(message))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "working"}}
        await _event(response, note)
        if said.breaks_off:
            assert http.transport is not None
            http.transport.abort()
            return response
        await _event(response, said.message(message))
        return response


def _result(asked: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked["id"], "result": result}


async def _event(response: web.StreamResponse, value: Any) -> None:
    await response.write(b"event: message\ndata: " + orjson.dumps(value) + b"\n\n")


@asynccontextmanager
async def scripted_mcp() -> AsyncIterator[ScriptedMcp]:
    """A running server on a free port of this machine."""
    server = ScriptedMcp()
    app = web.Application()
    app.router.add_route("*", "/mcp", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
