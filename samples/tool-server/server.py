"""A server of tools: what a shop has on its shelf, over the Model Context Protocol, with nothing but Python.

`python samples/tool-server/server.py` starts it. A call that comes again with the same key is answered as before and
done once, which is why the agent that lends `reserve` and `release` may say `effects: idempotent`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

ADDRESS = ("127.0.0.1", 18098)
MAX_BYTES = 1_000_000
KEY = "remit/idempotency_key"
MAX_ANSWERS = 10_000
ITEM = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
SOME = {"type": "object", "properties": {**ITEM["properties"], "count": {"type": "integer"}}, "required": ["item"]}

shelf = {"lamp": 3, "chair": 1}
answers: dict[str, Any] = {}
"""What was answered, by the key of the call; the newest of them."""
lock = Lock()


def look_up(item: str) -> dict[str, Any]:
    """How many there are."""
    return {"item": item, "on_shelf": shelf.get(item, 0)}


def reserve(item: str, count: int = 1) -> dict[str, Any]:
    """Take some from the shelf."""
    if shelf.get(item, 0) < count:
        raise ValueError("sold_out")
    shelf[item] -= count
    return {"item": item, "count": count, "on_shelf": shelf[item]}


def release(item: str, count: int = 1) -> dict[str, Any]:
    """Put some back."""
    shelf[item] = shelf.get(item, 0) + count
    return {"item": item, "on_shelf": shelf[item]}


TOOLS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "look_up": (look_up, ITEM), "reserve": (reserve, SOME), "release": (release, SOME),
}  # fmt: skip


def call(asked: dict[str, Any]) -> dict[str, Any]:
    """The result of a tool; of the same key the same one."""
    key = asked.get("_meta", {}).get(KEY)
    with lock:
        if key in answers:
            return answers[key]
        try:
            data, is_error = TOOLS[asked["name"]][0](**asked["arguments"]), False
        except ValueError as error:
            data, is_error = {"code": str(error)}, True
        text = [{"type": "text", "text": json.dumps(data)}]
        answer = {"content": text, "structuredContent": data, "isError": is_error}
        if key is not None and not is_error:
            answers[key] = answer
            if len(answers) > MAX_ANSWERS:
                del answers[next(iter(answers))]
        return answer


def answer(method: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a method; None for one that it does not know."""
    if method == "initialize":
        about = {"name": "shelf", "version": "1.0.0"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        known = [(name, does.__doc__, schema) for name, (does, schema) in TOOLS.items()]
        return {"tools": [{"name": name, "description": text, "inputSchema": schema} for name, text, schema in known]}
    return call(asked) if method == "tools/call" and asked.get("name") in TOOLS else None


class Door(BaseHTTPRequestHandler):
    """`POST /mcp`: one JSON-RPC message, answered at once."""

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), MAX_BYTES)))
        if "id" not in message:
            self._answer(202, b"")
            return
        result = answer(message["method"], message.get("params") or {})
        fault = {"error": {"code": -32601, "message": "there is no such method or tool"}}
        said = fault if result is None else {"result": result}
        self._answer(200, json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}).encode())

    def do_GET(self) -> None:
        self._answer(405, b"")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *parts: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    print("a shelf listens at http://{}:{}/mcp".format(*ADDRESS))
    ThreadingHTTPServer(ADDRESS, Door).serve_forever()
