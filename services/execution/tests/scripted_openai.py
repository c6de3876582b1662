"""An OpenAI-compatible server over real HTTP that answers what a test wrote down beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: a success with this text, or whatever `status` and `body` say."""

    text: str = "hello"
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: tuple[int, int] | None = (11, 7)
    delay_seconds: float = 0
    word_seconds: float = 0
    """From one word of a stream to the next."""
    breaks_off: bool = False
    calls: tuple[tuple[str, Any], ...] = ()
    """Calls of tools, by name and arguments, instead of a text."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def texts(self) -> list[tuple[str, Any]]:
        return [(message["role"], message["content"]) for message in self.body["messages"]]


class ScriptedOpenAI:
    """Gives its replies in order, the last one for ever, and keeps every request."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply()]
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def complete(self, http: web.Request) -> web.StreamResponse:
        asked = Request(orjson.loads(await http.read()), {name.lower(): value for name, value in http.headers.items()})
        self.requests.append(asked)
        self.asked.set()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        await asyncio.sleep(reply.delay_seconds)
        if reply.status != 200 or reply.body is not None:
            return web.json_response(
                reply.body or {"error": {"message": "no"}}, status=reply.status, headers=reply.headers
            )
        if asked.body.get("stream"):
            return await _stream(http, asked, reply)
        return web.json_response(_completion(asked, reply))


def _usage(reply: Reply) -> dict[str, int] | None:
    if reply.usage is None:
        return None
    asked, answered = reply.usage
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _finish(reply: Reply) -> str:
    return "tool_calls" if reply.calls else reply.finish_reason


def _calls(reply: Reply) -> list[dict[str, Any]]:
    """As the protocol has them: the arguments are JSON in a string, or whatever string the test wrote."""
    return [
        {
            "id": f"call-{number}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else orjson.dumps(given).decode()},
        }
        for number, (name, given) in enumerate(reply.calls)
    ]


def _completion(asked: Request, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    if reply.calls:
        message |= {"content": None, "tool_calls": _calls(reply)}
    return {
        "id": "completion-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{asked.body['model']}-dated",
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(reply)}],
        "usage": _usage(reply),
    }


async def _stream(http: web.Request, asked: Request, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    common = {"id": "completion-1", "object": "chat.completion.chunk", "created": 1, "model": asked.body["model"]}
    if reply.calls:
        calls = [{**call, "index": index} for index, call in enumerate(_calls(reply))]
        delta = {"index": 0, "delta": {"role": "assistant", "tool_calls": calls}, "finish_reason": None}
        await _event(response, {**common, "choices": [delta]})
    for word in reply.text.split(" ") if not reply.calls else ():
        await asyncio.sleep(reply.word_seconds)
        delta = {"index": 0, "delta": {"role": "assistant", "content": word + " "}, "finish_reason": None}
        await _event(response, {**common, "choices": [delta]})
    if reply.breaks_off:
        assert http.transport is not None
        http.transport.abort()
        return response
    await _event(response, {**common, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(reply)}]})
    await _event(response, {**common, "choices": [], "usage": _usage(reply)})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _event(response: web.StreamResponse, value: Any) -> None:
    await response.write(b"data: " + orjson.dumps(value) + b"\n\n")


@asynccontextmanager
async def scripted_openai() -> AsyncIterator[ScriptedOpenAI]:
    """A running server on a free port of this machine."""
    server = ScriptedOpenAI()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
