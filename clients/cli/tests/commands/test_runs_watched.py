import json
from typing import Any

from clients.cli.tests.conftest import ScriptedEdge, Terminal

LISTED = {
    "id": "r0", "status": "running", "execution_type": "agent", "agent_id": "a1", "orchestration_id": None,
    "step_count": 1, "input_tokens": 1, "output_tokens": 1, "cost_usd_micros": 0, "queued_at": "2026-11-22T10:00:01Z",
}  # fmt: skip
SUBJECT = {"agentId": "a1", "orchestrationId": None, "stepCount": 2, "inputTokens": 5, "outputTokens": 6}


def event(event_id: str, kind: str, **told: Any) -> bytes:
    return f"id: {event_id}\nevent: {kind}\ndata: {json.dumps({'type': kind, **told})}\n\n".encode()


def custom(event_id: str, name: str, **value: Any) -> bytes:
    return event(event_id, "CUSTOM", name=name, value=value)


def test_all_runs_are_shown_as_they_change(edge: ScriptedEdge, remit: Terminal) -> None:
    first = (
        b": watching\n\n" + custom("1.0.0", "WATCH_STARTED")
        + custom("2.1.1", "RUN_WAITING", runId="r0", status="waiting", waitingFor="approval", **SUBJECT)
    )  # fmt: skip
    second = (
        custom("2.1.1", "WATCH_RESUMED")
        + event("3.1.2", "RUN_ERROR", runId="r0", status="failed", code="timeout", message="late", **SUBJECT)
        + b": still here\nid: 9.1.2\n\n"
    )
    gone = {"status": 403, "code": "organization_suspended", "detail": "This organization is suspended."}
    edge.on("GET /v1/runs/events", (200, first), (200, second), (403, gone))
    edge.on("GET /v1/runs", (200, {"items": [LISTED], "next_cursor": None}))
    edge.on("GET /v1/agents", (200, {"items": [{"id": "a1", "name": "writer"}], "next_cursor": None}))
    shown = remit("runs", "watch").stdout
    assert "r0  writer  … waiting for approval" in shown
    assert "r0  writer  ✗ failed timeout" in shown
    streams = [asked for asked in edge.asked if asked.path.startswith("/v1/runs/events")]
    assert [asked.headers.get("Last-Event-ID") for asked in streams] == [None, "2.1.1", "9.1.2"]
    assert len([asked for asked in edge.asked if asked.path.startswith("/v1/agents")]) == 1


def test_a_watcher_names_what_it_wants_and_for_how_long(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/agents", (200, {"items": [{"id": "a1", "name": "writer"}], "next_cursor": None}))
    edge.on("GET /v1/runs/events", (200, custom("1.0.0", "WATCH_STARTED")))
    edge.on("GET /v1/runs", (200, {"items": [], "next_cursor": None}))
    result = remit("runs", "watch", "--agent", "writer", "--seconds", "0.2")
    assert result.exit_code == 0, result.output
    (stream, *_) = [asked.path for asked in edge.asked if asked.path.startswith("/v1/runs/events")]
    assert stream == "/v1/runs/events?seconds=0.2&agent_id=a1"
    assert "agent_id=a1" in next(asked.path for asked in edge.asked if asked.path.startswith("/v1/runs?"))


def test_a_run_with_an_id_is_not_narrowed(edge: ScriptedEdge, remit: Terminal) -> None:
    assert remit("runs", "watch", "r1", "--agent", "writer").exit_code == 2
