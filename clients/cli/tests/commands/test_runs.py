import json
from pathlib import Path
from typing import Any

import pytest
from clients.cli.tests.conftest import ScriptedEdge, Terminal

from remit_cli.commands.runs import read_input
from remit_cli.failures import RUN_NOT_COMPLETED, CliError, RefusedError

RUN = {"id": "r1", "status": "queued", "cost_usd_micros": 0, "input_tokens": 0, "output_tokens": 0}


def test_input_comes_from_json_files_and_names(tmp_path: Path) -> None:
    (tmp_path / "document.md").write_text("# A title")
    (tmp_path / "input.json").write_text('{"a": 1}')
    assert read_input([f"text=@{tmp_path}/document.md", "b=two"]) == {"text": "# A title", "b": "two"}
    assert read_input([f"@{tmp_path}/input.json", '{"a": 2}']) == {"a": 2}
    assert read_input([f"@{tmp_path}/document.md"]) == {"text": "# A title"}


@pytest.mark.parametrize("wrong", ["not json", "[1]", "@/no/such/file"])
def test_input_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(CliError):
        read_input([wrong])


def test_start_sends_what_was_asked_for(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/runs", (202, RUN))
    arguments = ("--orchestration", "digest", "--input", '{"text": "x"}', "--idempotency-key", "k1", "--json")
    result = remit("runs", "start", *arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["id"] == "r1"
    assert edge.asked[0].body == {
        "orchestration": "digest",
        "version": "current",
        "input": {"text": "x"},
        "trigger_type": "cli",
    }
    assert edge.asked[0].headers["Idempotency-Key"] == "k1"


@pytest.mark.parametrize("subjects", [(), ("--agent", "a", "--orchestration", "o")])
def test_start_wants_exactly_one_subject(edge: ScriptedEdge, remit: Terminal, subjects: tuple[str, ...]) -> None:
    assert remit("runs", "start", *subjects).exit_code == 2
    assert edge.asked == []


def test_waiting_ends_with_the_run_and_says_by_exit_code_how(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/runs", (202, RUN))
    edge.on("GET /v1/runs/r1", (200, RUN | {"status": "running"}), (200, RUN | {"status": "failed"}))
    result = remit("runs", "start", "--agent", "a", "--wait")
    assert result.exit_code == RUN_NOT_COMPLETED
    assert edge.asked[-1].headers["Prefer"] == "wait=60"


def test_watching_prints_steps_and_the_end(edge: ScriptedEdge, remit: Terminal) -> None:
    step = {"stepName": "facts", "status": "completed", "attempt": 2, "inputTokens": 5, "outputTokens": 2}
    told = json.dumps(step | {"costUsdMicros": 12}).encode()
    second = json.dumps(step | {"costUsdMicros": 0, "iteration": 1}).encode()
    stream = b"".join(b"id: %d\nevent: STEP_FINISHED\ndata: %s\n\n" % at for at in enumerate((told, second)))
    end = b'id: ended\nevent: RUN_ERROR\ndata: {"status": "failed", "message": "no luck"}\n\n'
    edge.on("GET /v1/runs/r1", (200, RUN), (200, RUN | {"status": "failed"}))
    edge.on("GET /v1/runs/r1/events", (200, stream + end))
    result = remit("runs", "watch", "r1")
    assert "facts attempt 2  7 tokens  $0.000012" in result.stdout
    assert "facts #2 attempt 2" in result.stdout
    assert "failed no luck" in result.stdout
    assert result.exit_code == RUN_NOT_COMPLETED


WAITS = [
    ({"reason": "concurrency", "key": "acme", "limit": 2, "under_way": 2}, "2 of 2 run at once of the key acme"),
    (
        {"reason": "rate", "limit": 10, "seconds": 60, "until": "2026-11-29T10:00:03.5Z"},
        "10 may start in 60 s; the next at 2026-11-29 10:00:03",
    ),
    ({"reason": "workspace limit", "limit": 5, "under_way": 5}, "its workspace runs 5 of 5 at once"),
    ({"reason": "workspace suspended"}, "its workspace is suspended"),
    ({"reason": "kill switch"}, "a kill switch stops it"),
    ({"reason": "turn"}, "it waits for its turn"),
    ({"reason": "something_new"}, "it waits for its turn"),
]


@pytest.mark.parametrize(("hindrance", "said"), WAITS)
def test_a_queued_run_says_what_it_waits_for(edge: ScriptedEdge, remit: Terminal, hindrance: Any, said: str) -> None:
    run = RUN | {"hindrance": hindrance}
    edge.on("GET /v1/runs/r1", (200, run), (200, run), (200, RUN | {"status": "completed"}))
    edge.on("GET /v1/runs/r1/explain", (200, {"run": run}))
    event = json.dumps({"name": "RUN_QUEUED", "value": {"runId": "r1", **hindrance}}).encode()
    end = b"id: ended\nevent: RUN_FINISHED\ndata: {}\n\n"
    edge.on("GET /v1/runs/r1/events", (200, b"id: 1.queued\nevent: CUSTOM\ndata: %s\n\n" % event + end))
    for command in ("get", "explain", "watch"):
        assert said in " ".join(remit("runs", command, "r1").stdout.split())


def test_cancelling_says_why_and_how_the_run_stands(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/runs/r1/cancel", (200, RUN | {"status": "cancelling"}))
    result = remit("runs", "cancel", "r1", "--reason", "enough")
    assert result.exit_code == 0, result.output  # it is under way: no failure, whatever becomes of the run
    shown = " ".join(result.stdout.split())
    assert "status cancelling" in shown
    assert "remit runs explain r1" in shown
    assert json.loads(remit("runs", "cancel", "r1", "--json").stdout)["status"] == "cancelling"
    assert [(each.method, each.path, each.body) for each in edge.asked] == [
        ("POST", "/v1/runs/r1/cancel", {"reason": "enough"}),
        ("POST", "/v1/runs/r1/cancel", {"reason": ""}),
    ]


def test_a_run_that_cannot_be_cancelled_is_refused_in_the_edges_words(edge: ScriptedEdge, remit: Terminal) -> None:
    assert str(remit.refused("runs", "cancel", "r9")) == "There is nothing here."
    over = {"status": 409, "code": "invalid_transition", "detail": "A run that is completed cannot become cancelling."}
    edge.on("POST /v1/runs/r1/cancel", (409, over))
    refused = remit.refused("runs", "cancel", "r1", "--json")
    assert isinstance(refused, RefusedError)
    assert (refused.code, str(refused)) == ("invalid_transition", over["detail"])


def test_a_person_decides_about_a_step(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/runs/r1/steps/s1/decide", (200, {"node": "pay", "status": "completed"}))
    result = remit("runs", "decide", "r1", "s1", "--outcome", "completed", "--output", '{"paid": true}')
    assert "step pay: completed" in result.stdout
    assert edge.asked[-1].body == {"outcome": "completed", "output": {"paid": True}, "reason": ""}
    assert remit("runs", "decide", "r1", "s1", "--outcome", "completed", "--output", "{").exit_code == 1


def test_a_run_is_sent_a_signal(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/runs/r1/signal", (200, RUN | {"status": "queued"}))
    result = remit("runs", "signal", "r1", "payment", "--payload", '{"euro": 5}')
    assert "queued" in result.stdout
    assert edge.asked[-1].body == {"name": "payment", "payload": {"euro": 5}}
    assert remit("runs", "signal", "r1", "payment", "--payload", "{").exit_code == 1


def test_a_run_is_forked_and_compared(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/runs/r1/fork", (202, RUN | {"id": "r2", "status": "queued"}))
    shown = remit("runs", "fork", "r1", "--from", "edit", "--input", "topic=lakes", "--version", "1.1.0").stdout
    assert edge.asked[-1].body == {
        "from_step": "edit", "from_iteration": 0, "allow_writes": False, "input": {"topic": "lakes"},
        "version": "1.1.0",
    }  # fmt: skip
    assert "remit runs difference r2" in shown
    step = {"node": "edit", "iteration": 1, "change": "changed", "status_before": "failed", "status_after": "completed"}
    found = {
        "statuses": ["failed", "completed"], "outputs": [None, {"text": "lakes"}], "cost_usd_micros": [5, 7],
        "execution_time_ms": [1500, None], "steps": [step],
    }  # fmt: skip
    edge.on("GET /v1/runs/r2/difference", (200, found))
    shown = remit("runs", "difference", "r2").stdout
    for part in ("edit #2", "changed", "1.5 s", "$0.000007", "lakes"):
        assert part in shown


def test_explain_prints_every_part(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on(
        "GET /v1/runs/r1/explain",
        (
            200,
            {
                "run": RUN | {"status": "completed", "execution_time_ms": 1500, "output": {"text": "short"}},
                "caller": {"kind": "api_key", "id": "k7", "roles": ["developer"]},
                "trigger": {"type": "api"},
                "decision": {"effect": "allow", "rule_name": "night-shift", "policy_id": "p9", "reason": "because"},
                "version": {"semver": "1.2.3", "digest": "sha256:beef", "agents": {"reader": {"semver": "2.0.0"}}},
                "approvals": [
                    {"rule_name": "four-eyes", "status": "approved", "approver_id": "u9", "reason": "it is right"}
                ],
                "steps": [],
                "children": [
                    {"id": "c77", "status": "failed", "input_tokens": 40, "output_tokens": 2, "cost_usd_micros": 8}
                ],
                "costs": [],
                "audit_entries": [{"timestamp": "2026-11-22T10:00:01.5Z", "event_type": "execution.run.completed.v1"}],
                "trace_id": "feed",
                "pending": [],
            },
        ),
    )
    shown = remit("runs", "explain", "r1").stdout
    for part in (
        "k7 as developer",
        "c77  failed  42 tokens  $0.000008",
        "night-shift",
        "p9",
        "1.2.3",
        "sha256:beef",
        "2.0.0",
        "1.5 s",
        "feed",
        "four-eyes approved by u9",
    ):
        assert part in shown
    assert "execution.run.completed.v1" in shown
    assert json.loads(remit("runs", "explain", "r1", "--json").stdout)["trace_id"] == "feed"
