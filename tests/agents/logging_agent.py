"""An agent of kind `http` that writes each call down before it does anything else: the witness of the chaos tests.

`python tests/agents/logging_agent.py --log calls.jsonl [--port N] [--latency-ms 5] [--script '{...}']` prints `READY
<url>`. A line of the log is one call: `{"at": <Unix seconds>, "key", "run_id", "step", "iteration", "attempt",
"input"}`, written in one piece before the answer leaves, so the log holds every call that any answer can come from.

The script says what happens on the first calls of a key (`run:node:iteration`), of a step's name, or of each key (`*`),
in order; later calls are answered: `{"draft": [{"status": 500}, {"latency_ms": 200}, {"hang": true}]}`. One act instead
of a list is what always happens. POSTing such an object to `/script` replaces it. What is answered depends on step and input alone: see `answer`.

It is a language model too, at `<url>v1` in OpenAI's protocol: what it says depends on the prompt alone, see `completion`.
And it is a server of tools, at `<url>mcp`: any tool does what the agent does, and its calls are lines of the log like the
others, but that nobody tells it which attempt they are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

_PR_SET_PDEATHSIG = 1
IDEMPOTENCY_KEY = "remit/idempotency_key"
HANG_SECONDS = 3600
Script = Mapping[str, list[dict[str, Any]] | dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the log."""

    at: float
    key: str
    run_id: str
    step: str
    iteration: int
    attempt: int | None
    input: Any


def answer(step: str, value: Any) -> dict[str, Any]:
    """What the agent answers to this step with this input, whenever and how often it is asked."""
    seen = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return {
        "output": {"step": step, "text": hashlib.sha256(step.encode() + b":" + seen).hexdigest()[:16]},
        "usage": {"input_tokens": len(seen), "output_tokens": 16},
    }


def completion(prompt: str) -> str:
    """What the language model says to this prompt."""
    return hashlib.sha256(b"prompt:" + prompt.encode()).hexdigest()[:16]


def read_calls(log: Path) -> list[Call]:
    """Every call so far, in order of arrival."""
    if not log.exists():
        return []
    return [Call(**orjson.loads(line)) for line in log.read_bytes().splitlines()]


class LoggingAgent:
    """The HTTP side: log, then do what the script says, else answer."""

    def __init__(self, log: int, latency_seconds: float, script: Script) -> None:
        self._log = log
        self._latency_seconds = latency_seconds
        self._script = script
        self._calls: Counter[str] = Counter()

    def app(self) -> web.Application:
        """The application to serve."""
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_post("/", self._do_step)
        app.router.add_post("/script", self._replace_script)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/mcp", self._speak)
        return app

    async def _do_step(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        return await self._act(request.headers["Idempotency-Key"], body, answer(body["step"], body["input"]))

    async def _speak(self, request: web.Request) -> web.Response:
        """One message of the Model Context Protocol; of a tool's call the output that the agent gives as its data."""
        message = orjson.loads(await request.read())
        if "id" not in message:
            return web.Response(status=202)
        said: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "tools/call":
            asked = message["params"]
            key = asked["_meta"][IDEMPOTENCY_KEY]
            run_id, step, iteration = key.split(":")
            call = {"run_id": run_id, "step": step, "iteration": int(iteration), "attempt": None}
            output = answer(step, asked["arguments"])["output"]
            result = {"content": [], "structuredContent": output, "isError": False}
            return await self._act(key, {**call, "input": asked["arguments"]}, {**said, "result": result})
        if message["method"] == "initialize":
            about = {"name": "logging agent", "version": "1"}
            said["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
        else:
            said["error"] = {"code": -32601, "message": "there is no such method"}
        return web.json_response(said)

    async def _act(self, key: str, call: dict[str, Any], said: dict[str, Any]) -> web.Response:
        """Log the call, then do what the script says, else say this."""
        os.write(self._log, orjson.dumps({"at": time.time(), "key": key, **call}) + b"\n")
        act = self._next_act(key, call["step"])
        if act.get("hang"):
            await asyncio.sleep(HANG_SECONDS)
        await asyncio.sleep(act.get("latency_ms", 0) / 1000 or self._latency_seconds)
        if "status" in act:
            return web.json_response({"error": "as scripted"}, status=act["status"])
        return web.Response(body=orjson.dumps(said), content_type="application/json")

    async def _complete(self, request: web.Request) -> web.Response:
        """A chat completion; calls of models carry no key, so they are not in the log."""
        body = orjson.loads(await request.read())
        prompt = next(message["content"] for message in body["messages"] if message["role"] == "user")
        await asyncio.sleep(self._latency_seconds)
        message = {"role": "assistant", "content": completion(prompt)}
        used = {"prompt_tokens": 1000 + len(prompt), "completion_tokens": 50, "total_tokens": 1050 + len(prompt)}
        return web.json_response(
            {
                "id": "completion", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": used,
            }
        )  # fmt: skip

    def _next_act(self, key: str, step: str) -> dict[str, Any]:
        for name, counted in ((key, key), (step, f"step {step}"), ("*", f"each {key}")):
            if name in self._script:
                acts, made = self._script[name], self._calls[counted]
                if isinstance(acts, dict):
                    return acts
                self._calls[counted] += 1
                return acts[made] if made < len(acts) else {}
        return {}

    async def _replace_script(self, request: web.Request) -> web.Response:
        self._script = orjson.loads(await request.read())
        self._calls.clear()
        return web.Response(status=204)


@asynccontextmanager
async def logging_agent(
    log: Path, *, port: int = 0, latency_ms: float = 0, script: Script | None = None
) -> AsyncIterator[str]:
    """A running agent, in a process of its own that dies with this one; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__)),
        *(
            "--log",
            str(log),
            "--port",
            str(port),
            "--latency-ms",
            str(latency_ms),
            "--script",
            json.dumps(script or {}),
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode().split()
        assert ready[:1] == ["READY"], "the logging agent did not start"
        yield ready[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _serve(arguments: argparse.Namespace) -> None:
    log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    agent = LoggingAgent(log, arguments.latency_ms / 1000, json.loads(arguments.script))
    runner = web.AppRunner(agent.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", arguments.port, backlog=1024).start()
    print(f"READY http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed, or until the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--script", default="{}")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
