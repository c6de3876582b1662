"""Reading a fact's envelope for what one searches by. The bytes themselves are never written again."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

_FAILED = frozenset(("failed", "refused", "timed_out", "denied"))
MAX_ID_LENGTH = 200
"""Longer ids are cut where one searches; whole they are in the fact's bytes."""
MAX_MESSAGE_LENGTH = 500


class Searchable(NamedTuple):
    """What one finds an entry by; ids are still text."""

    occurred_at: datetime
    workspace_id: str | None
    run_id: str | None
    resource_type: str
    resource_id: str
    action: str
    actor_type: str
    actor_id: str
    owner_id: str
    result: str
    error_message: str


def read_fact(event_type: str, body: bytes) -> Searchable:
    """What an envelope says of itself; ValueError, KeyError or TypeError when it is none."""
    envelope: dict[str, Any] = orjson.loads(body)
    data: dict[str, Any] = envelope["data"]
    resource_type, _, resource_id = envelope["subject"].partition("/")
    actor = envelope["actor"]
    happened, failed = _participle(event_type)
    failed = failed or data.get("effect") == "deny"
    found = Searchable(
        datetime.fromisoformat(envelope["time"]),
        envelope.get("workspace_id"),
        data.get("run_id"),
        resource_type[:MAX_ID_LENGTH],
        resource_id[:MAX_ID_LENGTH],
        # The use case that was refused, else what happened: `cancel_run`, `completed`.
        str(data.get("operation") or data.get("action") or happened)[:MAX_ID_LENGTH],
        actor["type"][:MAX_ID_LENGTH],
        actor["id"][:MAX_ID_LENGTH],
        str(data.get("owner_id") or data.get("created_by") or "")[:MAX_ID_LENGTH],
        "failure" if failed else "success",
        _why(data) if failed else "",
    )
    # PostgreSQL has no text with a NUL; the bytes keep it.
    return Searchable(*map(_without_nul, found)) if b"\\u0000" in body else found


@lru_cache(maxsize=1024)
def _participle(event_type: str) -> tuple[str, bool]:
    happened = event_type.split(".")[2]
    return happened, happened in _FAILED


def _why(data: dict[str, Any]) -> str:
    return str(data.get("error_code") or data.get("code") or data.get("reason") or "")[:MAX_MESSAGE_LENGTH]


def _without_nul(value: Any) -> Any:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
