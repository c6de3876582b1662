"""A server that speaks Anthropic's protocol over real HTTP and answers what a test wrote down beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web
from services.execution.tests.scripted_openai import Reply, Request


class ScriptedAnthropic:
    """Gives its replies in order, the last one for ever, and keeps every request."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply(finish_reason="end_turn")]
        self.requests: list[Request] = []
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def complete(self, http: web.Request) -> web.StreamResponse:
        asked = Request(orjson.loads(await http.read()), {name.lower(): value for name, value in http.headers.items()})
        self.requests.append(asked)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        await asyncio.sleep(reply.delay_seconds)
        if reply.status != 200 or reply.body is not None:
            body = reply.body or {"type": "error", "error": {"type": "api_error", "message": "no"}}
            return web.json_response(body, status=reply.status, headers=reply.headers)
        message = _message(asked, reply)
        return await _stream(http, message, reply) if asked.body.get("stream") else web.json_response(message)


_REASONS = {"stop": "end_turn"}


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given}
        for number, (name, given) in enumerate(reply.calls)
    ]


def _message(asked: Request, reply: Reply) -> dict[str, Any]:
    input_tokens, output_tokens = reply.usage or (0, 0)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": f"{asked.body['model']}-dated",
        "content": _calls(reply) or [{"type": "text", "text": reply.text}],
        "stop_reason": _REASONS.get(reply.finish_reason, reply.finish_reason) if not reply.calls else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    }


async def _stream(http: web.Request, message: dict[str, Any], reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    usage = {**message["usage"], "output_tokens": 1}
    await _event(response, "message_start", message={**message, "content": [], "stop_reason": None, "usage": usage})
    await _event(response, "content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in reply.text.split(" "):
        await asyncio.sleep(reply.word_seconds)
        await _event(response, "content_block_delta", index=0, delta={"type": "text_delta", "text": word + " "})
    if reply.breaks_off:
        assert http.transport is not None
        http.transport.abort()
        return response
    await _event(response, "content_block_stop", index=0)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    await _event(response, "message_delta", delta=delta, usage={"output_tokens": message["usage"]["output_tokens"]})
    await _event(response, "message_stop")
    return response


async def _event(response: web.StreamResponse, kind: str, **fields: Any) -> None:
    await response.write(f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n")


@asynccontextmanager
async def scripted_anthropic() -> AsyncIterator[ScriptedAnthropic]:
    """A running server on a free port of this machine."""
    server = ScriptedAnthropic()
    app = web.Application()
    app.router.add_post("/v1/messages", server.complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
