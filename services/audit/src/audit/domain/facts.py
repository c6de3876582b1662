"""Reading a fact's envelope for what one searches by. The bytes themselves are never written again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

_FAILED = frozenset(("failed", "refused", "timed_out", "denied"))


@dataclass(frozen=True, slots=True)
class Searchable:
    """The columns beside an entry's bytes."""

    occurred_at: datetime
    workspace_id: UUID | None
    resource_type: str
    resource_id: str
    action: str
    actor_type: str
    actor_id: str
    owner_id: str
    result: str
    error_message: str
    run_id: UUID | None


def read_fact(event_type: str, body: bytes) -> Searchable:
    """What an envelope says of itself; ValueError or KeyError when it is none."""
    envelope: dict[str, Any] = orjson.loads(body)
    data: dict[str, Any] = envelope["data"]
    resource_type, _, resource_id = envelope["subject"].partition("/")
    actor = envelope["actor"]
    run_id, workspace_id = data.get("run_id"), envelope.get("workspace_id")
    failed = _is_failure(event_type, data)
    return Searchable(
        occurred_at=datetime.fromisoformat(envelope["time"]),
        workspace_id=UUID(workspace_id) if workspace_id else None,
        resource_type=resource_type,
        resource_id=resource_id,
        action=_action(event_type, data),
        actor_type=actor["type"],
        actor_id=actor["id"],
        owner_id=str(data.get("owner_id") or data.get("created_by") or ""),
        result="failure" if failed else "success",
        error_message=str(data.get("error_code") or data.get("code") or data.get("reason") or "")[:500]
        if failed
        else "",
        run_id=UUID(run_id) if run_id else None,
    )


def _is_failure(event_type: str, data: dict[str, Any]) -> bool:
    return event_type.split(".")[2] in _FAILED or data.get("effect") == "deny"


def _action(event_type: str, data: dict[str, Any]) -> str:
    """The use case that was refused, else what happened: `cancel_run`, `completed`."""
    return str(data.get("operation") or data.get("action") or event_type.split(".")[2])
