"""A caller at a service's real door: ASGI in process, no socket, a fresh internal token on every request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.types import ASGIApp, Message

Query = Mapping[str, str | int | bool]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a refusal; empty when it was none."""
        is_problem = self.headers.get("content-type", "").startswith("application/problem+json")
        return str(self.json()["code"]) if is_problem else ""


class Client:
    """Sends requests to an ASGI app as one caller; `token` is asked before each."""

    def __init__(self, app: ASGIApp, token: Callable[[], str] | None) -> None:
        self._app, self._token = app, token

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; `body` is sent as JSON unless it is bytes already."""
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if self._token is not None:
            sent.setdefault("authorization", f"Bearer {self._token()}")
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        if content:
            sent.setdefault("content-type", "application/json")
        sent["content-length"] = str(len(content))
        return await self._exchange(method, path, urlencode(dict(query or {})), sent, content)

    async def get(self, path: str, *, query: Query | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """GET."""
        return await self.request("GET", path, query=query, headers=headers)

    async def post(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """POST."""
        return await self.request("POST", path, body, headers=headers)

    async def put(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """PUT."""
        return await self.request("PUT", path, body, headers=headers)

    async def patch(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """PATCH."""
        return await self.request("PATCH", path, body, headers=headers)

    async def delete(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """DELETE."""
        return await self.request("DELETE", path, body, headers=headers)

    async def _exchange(
        self, method: str, path: str, query: str, headers: Mapping[str, str], content: bytes
    ) -> Answer:  # fmt: skip
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        incoming = [{"type": "http.request", "body": content, "more_body": False}]
        status, received, chunks = 0, {}, []

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()  # a caller that stays: the app cancels whoever waits for its leaving
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, received
            if message["type"] == "http.response.start":
                status = message["status"]
                received = {name.decode().lower(): value.decode() for name, value in message.get("headers", ())}
            else:
                chunks.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return Answer(status, received, b"".join(chunks))
