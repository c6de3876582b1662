"""Which pages may call the edge from a browser."""

from __future__ import annotations

from collections.abc import Sequence

Pairs = list[tuple[bytes, bytes]]

_VARY = (b"vary", b"Origin")
_EXPOSED = (
    b"access-control-expose-headers",
    b"ETag, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, X-Correlation-Id",
)
_PREFLIGHT: Pairs = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, Prefer, Traceparent, X-Correlation-Id",
    ),
    (b"access-control-max-age", b"600"),
]


class Cors:
    """The origins an operator allows. Keys travel in a header, never in a cookie, so credentials are never allowed."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = b"*" in self._origins

    def headers(self, origin: bytes) -> Pairs:
        """What an answer tells the browser of a page from `origin`."""
        if not (self._any or origin in self._origins):
            return [_VARY]
        return [(b"access-control-allow-origin", origin), _VARY, _EXPOSED]

    def preflight(self, origin: bytes) -> Pairs:
        """What the answer to a browser's question before the request says, beside `headers`."""
        return _PREFLIGHT if self._any or origin in self._origins else []
