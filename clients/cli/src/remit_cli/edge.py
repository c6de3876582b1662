"""A client of the edge's HTTP API."""

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import orjson

from remit_cli.failures import RefusedError, UnreachableError
from remit_cli.place import Place

CONNECT_SECONDS = 5
ANSWER_SECONDS = 90
SILENCE_SECONDS = 60
"""A watched run sends a heartbeat every 15 s."""


class Event(NamedTuple):
    """One server-sent event."""

    id: str
    name: str
    data: dict[str, Any]


class Edge:
    """Speaks to one edge with one key; what the edge refuses is raised as RefusedError."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.place.api_key}", "User-Agent": "remit-cli"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, *, wait_seconds: int = 0, **query: Any) -> Any:
        """Return the JSON at a path; query parameters that are None are left out.

        A run with `wait_seconds` answers when it is over, or after so many seconds.
        """
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return await self._ask("GET", path, query=query, headers=headers)

    async def post(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """Post JSON and return the answer's."""
        return await self._ask("POST", path, body=body, headers=headers)

    async def patch(self, path: str, body: Any, *, version: int) -> Any:
        """Change what is at a path, if it still has this version."""
        return await self._ask("PATCH", path, body=body, headers={"If-Match": f'"{version}"'})

    async def delete(self, path: str) -> None:
        """Delete what is at a path."""
        await self._ask("DELETE", path)

    async def items(self, path: str, *, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Return up to `limit` items of a list, following its pages."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self.get(path, limit=min(limit - len(found), 200), cursor=cursor, **query)
            found += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                break
        return found[:limit]

    async def events(self, path: str, last_event_id: str = "", **query: Any) -> AsyncIterator[Event]:
        """Yield server-sent events until the edge ends the stream; one without a name only brings a newer id."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            params = {name: str(value) for name, value in query.items() if value is not None}
            async with self._open().get(self._url(path), params=params, headers=headers, timeout=timeout) as answer:
                await _require_success(answer)
                fields: dict[str, str] = {}
                async for line in answer.content:
                    name, _, value = line.decode().rstrip("\r\n").partition(": ")
                    if name:
                        fields[name] = value
                    elif fields:
                        found = orjson.loads(fields.get("data", "{}"))
                        yield Event(fields.get("id", ""), fields.get("event", ""), found)
                        fields = {}
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        params = {name: str(value) for name, value in (query or {}).items() if value is not None}
        content = None if body is None else orjson.dumps(body)
        sent = {**({"Content-Type": "application/json"} if content is not None else {}), **(headers or {})}
        try:
            async with self._open().request(
                method, self._url(path), params=params, data=content, headers=sent
            ) as answer:
                await _require_success(answer)
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from None
        return orjson.loads(text) if text else None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Edge(...)`")
        return self._session

    def _url(self, path: str) -> str:
        return self.place.edge.rstrip("/") + path

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"no answer from {self.place.edge}: {reason}. Is Remit running? `remit status` says.")


async def _require_success(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:
        return
    text = await answer.read()
    try:
        problem = orjson.loads(text)
    except orjson.JSONDecodeError:
        problem = {"title": answer.reason, "detail": text.decode(errors="replace")[:500]}
    raise RefusedError(answer.status, problem if isinstance(problem, dict) else {"detail": str(problem)})
