"""One request as the edge sees it: what it says, what of it may go on, and what every answer carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.clients.hops import HOP_HEADERS

_READ = frozenset((
    b"access-control-request-method", b"authorization", b"content-length", b"origin", b"traceparent",
    b"transfer-encoding", b"x-correlation-id",
))  # fmt: skip
_KEPT_BACK = HOP_HEADERS | {
    b"authorization", b"cookie", b"expect", b"forwarded", b"origin", b"traceparent", b"x-correlation-id",
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
}  # fmt: skip
"""What stays at the edge: the key, what is about this connection, and what a service would take from the edge alone."""
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_NO_STORE = (b"cache-control", b"no-store")
MAX_CORRELATION_LENGTH = 100


@dataclass(slots=True)
class Request:
    """What the edge reads of a request."""

    method: str
    path: str
    key: str
    """What stands behind `Bearer`; empty without."""
    traceparent: str
    correlation_id: str
    origin: bytes
    length: int
    """Of the body, as declared; -1 when it is not."""
    is_preflight: bool
    onward: list[tuple[bytes, bytes]]
    """The headers that may go on."""
    is_chunked: bool
    extra: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What this request's answer carries beside the usual."""


def read_request(scope: Scope) -> Request:
    """Read what the edge needs, in one pass over the headers."""
    onward: list[tuple[bytes, bytes]] = []
    found: dict[bytes, bytes] = {}
    for pair in scope["headers"]:
        name = pair[0]
        if name in _READ:
            found[name] = pair[1]
        if name not in _KEPT_BACK:
            onward.append(pair)
    scheme, _, key = found.get(b"authorization", b"").partition(b" ")
    length = found.get(b"content-length", b"")
    return Request(
        method=scope["method"],
        path=scope["path"],
        key=key.strip().decode("latin-1") if scheme.lower() == b"bearer" else "",
        traceparent=_valid_traceparent(found.get(b"traceparent", b"")),
        correlation_id=_valid_correlation(found.get(b"x-correlation-id", b"")),
        origin=found.get(b"origin", b""),
        length=int(length) if length.isdigit() else -1,
        is_preflight=scope["method"] == "OPTIONS" and b"access-control-request-method" in found,
        onward=onward,
        is_chunked=b"transfer-encoding" in found,
    )


def _valid_traceparent(given: bytes) -> str:
    if len(given) != 55 or given[:3] != b"00-":
        return ""
    text = given.decode("latin-1")
    parts = text.split("-")
    if [len(part) for part in parts] != [2, 32, 16, 2] or not set(text) <= set("0123456789abcdef-"):
        return ""
    return text if parts[1].strip("0") and parts[2].strip("0") else ""


def _valid_correlation(given: bytes) -> str:
    """The caller's own word for what belongs together: printable and short, or none."""
    text = given.decode("latin-1")
    return text if len(text) <= MAX_CORRELATION_LENGTH and text.isascii() and text.isprintable() else ""


class Exchange:
    """A request and its answer: adds what every answer of the edge carries, and knows whether it has begun."""

    __slots__ = ("_cors", "_send", "receive", "request", "scope", "started", "status")

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, cors: Callable[[bytes], list[tuple[bytes, bytes]]]
    ) -> None:
        self.request = read_request(scope)
        self.scope, self.receive, self._send, self._cors = scope, receive, send, cors
        self.started, self.status = False, 0

    async def answer(self, response: Response) -> None:
        """Send a whole answer."""
        await response(self.scope, self.receive, self.send)

    async def send(self, message: Message) -> None:
        """ASGI's send; nobody who asked for the head gets a body."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            message["headers"] = self._headers(message)
        elif self.request.method == "HEAD":
            message["body"] = b""
        await self._send(message)

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = [*message.get("headers", ()), *SECURITY_HEADERS, *self.request.extra]
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append(_NO_STORE)
        if self.request.origin:
            headers += self._cors(self.request.origin)
        return headers
