"""Hosts that an organization lets its agents name: exact names, and `*.example.com` for all below one."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

MAX_HOST_CHARACTERS = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_PATTERN = rf"^(?:\*\.)?{_LABEL}(?:\.{_LABEL})*$|^[0-9a-f:]*:[0-9a-f:]+$"
"""A name, an address, or a star for everything below a name; lower case, no port."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(HOST_PATTERN)


def is_host(text: str) -> bool:
    """Whether a text can stand in the list."""
    return len(text) <= MAX_HOST_CHARACTERS and _HOST.fullmatch(text) is not None


def host_of(url: str) -> str:
    """The host that a URL names, as the list writes hosts."""
    return (urlsplit(url).hostname or "").rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether it is this machine itself: what is sent there is on no wire."""
    return host in _LOOPBACK


def is_listed(host: str, known: Collection[str]) -> bool:
    """Whether the list names the host, or something above it with a star."""
    if host in known:
        return True
    labels = host.split(".")
    return any("*." + ".".join(labels[start:]) in known for start in range(1, len(labels)))
