from __future__ import annotations

import orjson
import pytest

from audit.domain.facts import MAX_ID_LENGTH, read_fact

ENVELOPE = {
    "time": "2026-11-22T12:00:00.5Z", "subject": "run/r1", "workspace_id": "w1", "actor": {"type": "user", "id": "ann"},
    "data": {"run_id": "r1", "owner_id": "bob"},
}  # fmt: skip


def body(**changes: object) -> bytes:
    return orjson.dumps({**ENVELOPE, **changes})


def test_what_one_searches_by() -> None:
    seen = read_fact("execution.run.completed.v1", body())
    assert seen.occurred_at.isoformat() == "2026-11-22T12:00:00.500000+00:00"
    assert (seen.resource_type, seen.resource_id, seen.run_id, seen.workspace_id) == ("run", "r1", "r1", "w1")
    assert (seen.actor_type, seen.actor_id, seen.owner_id) == ("user", "ann", "bob")
    assert (seen.action, seen.result, seen.error_message) == ("completed", "success", "")


@pytest.mark.parametrize(
    ("event_type", "data", "action", "message"),
    [
        ("execution.run.failed.v1", {"error_code": "agent_failed"}, "failed", "agent_failed"),
        ("execution.run.timed_out.v1", {"stop_reason": "time"}, "timed_out", ""),
        ("gateway.request.refused.v1", {"operation": "cancel_run", "code": "missing_scope"}, "cancel_run", "missing_scope"),
        ("policy.decision.recorded.v1", {"effect": "deny", "action": "run:create", "reason": "night"}, "run:create", "night"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_a_failure(event_type: str, data: dict[str, str], action: str, message: str) -> None:
    seen = read_fact(event_type, body(data=data))
    assert (seen.result, seen.action, seen.error_message) == ("failure", action, message)


def test_long_and_unstorable_texts_are_found_by_what_a_column_takes() -> None:
    seen = read_fact("a.b.c.v1", body(subject="thing/" + "x" * 5000, actor={"type": "user", "id": "a\0b"}))
    assert len(seen.resource_id) == MAX_ID_LENGTH
    assert seen.actor_id == "a�b"


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b"{}", body(data=None)[:-3], body(time="yesterday")])
def test_what_is_no_envelope_is_said_to_be_none(broken: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_fact("a.b.c.v1", broken)
