"""Addresses that a definition may name, and the headers it may send there: no secret, and nothing the product sets."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from execution.domain.shapes import Duration, Name, Shape

MAX_HEADERS = 20
MAX_HEADER_CHARACTERS = 2_000

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_OUR_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "host", "idempotency-key", "te",
        "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
        "webhook-id", "webhook-signature", "webhook-timestamp",
    }
)  # fmt: skip
_NOT_A_URL = "a URL starts with https:// or http:// and names a host"
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 443) > 0
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    if not usable or not _HEADER_VALUE.fullmatch(text) or " " in text:
        raise ValueError(_NOT_A_URL)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL holds no user name or password: definitions are no place for secrets")
    if parts.fragment:
        raise ValueError("a URL of an endpoint has no fragment")
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or len(value) > MAX_HEADER_CHARACTERS or not _HEADER_VALUE.fullmatch(value):
            raise ValueError("a header is a token and up to 2000 printable ASCII characters")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"the header {name} is set by the product")
        if name.lower() in _SECRET_HEADERS:
            raise ValueError(f"the header {name} would hold a secret: definitions are no place for secrets")
    return headers


Url = Annotated[str, Field(max_length=2_000), AfterValidator(_url)]
Headers = Annotated[dict[str, str], Field(max_length=MAX_HEADERS), AfterValidator(_headers)]


class HttpEndpoint(Shape):
    """Where an `http` agent lives; it answers a POST within the timeout (30 s, where neither it nor a step says any).

    `credential` names the stored key: a secret that signs what is sent (`whsec_...`), or else a bearer token.
    """

    url: Url
    method: Literal["POST"] = "POST"
    headers: Headers = {}
    timeout: Duration | None = None
    credential: Name | None = None
