import json
from pathlib import Path
from typing import Any

import pytest
from clients.cli.tests.conftest import ScriptedEdge, Terminal

from remit_cli.failures import RefusedError

SCHEDULE: dict[str, Any] = {
    "id": "s1", "name": "nightly", "execution_type": "orchestration", "definition_id": "d1", "semver": "1.2.0",
    "priority": None, "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "missed_ticks": "one", "created_by": "u1",
    "paused_at": None, "pause_reason": "", "next_tick_at": "2026-11-02T02:00:00.5Z", "last_tick_at": None,
    "last_run_id": None, "last_error_code": "", "last_error_detail": "", "version": 1, "input": {"text": "x"},
}  # fmt: skip
NIGHTLY = ("schedules", "create", "nightly", "--cron", "0 3 * * *")


def test_create_sends_what_was_asked_for(edge: ScriptedEdge, remit: Terminal, tmp_path: Path) -> None:
    (tmp_path / "document.md").write_text("# A title")
    edge.on("POST /v1/schedules", (201, SCHEDULE))
    more = ("--orchestration", "digest", "--workspace", "live", "--version", "1.2.0", "--time-zone", "Europe/Berlin")
    given = ("--missed", "one", "--input", f"text=@{tmp_path}/document.md", "--input", '{"n": 2}')
    result = remit(*NIGHTLY, *more, *given)
    assert result.exit_code == 0, result.output
    (asked,) = edge.asked
    assert (asked.method, asked.path) == ("POST", "/v1/schedules")
    assert asked.body == {
        "name": "nightly", "agent": None, "orchestration": "digest", "workspace": "live", "version": "1.2.0",
        "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "missed_ticks": "one",
        "input": {"text": "# A title", "n": 2},
    }  # fmt: skip
    shown = " ".join(result.stdout.split())
    assert "cron 0 3 * * *" in shown
    assert "next tick at 2026-11-02 02:00:00" in shown
    assert "last run id" not in shown
    assert json.loads(remit(*NIGHTLY, "--agent", "a", "--json").stdout) == SCHEDULE


def test_create_of_an_agent_leaves_the_rest_as_usual(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/schedules", (201, SCHEDULE))
    remit(*NIGHTLY, "--agent", "write")
    assert edge.asked[0].body == {
        "name": "nightly", "agent": "write", "orchestration": None, "workspace": None, "version": "current",
        "cron": "0 3 * * *", "time_zone": "UTC", "missed_ticks": "skip", "input": {},
    }  # fmt: skip


@pytest.mark.parametrize("subjects", [(), ("--agent", "a", "--orchestration", "o")])
def test_create_wants_exactly_one_subject(edge: ScriptedEdge, remit: Terminal, subjects: tuple[str, ...]) -> None:
    result = remit(*NIGHTLY, *subjects)
    assert result.exit_code == 2
    assert "name either --agent or --orchestration" in result.output
    assert edge.asked == []


def test_schedules_are_listed_with_how_their_last_tick_went(edge: ScriptedEdge, remit: Terminal) -> None:
    broken = SCHEDULE | {"last_error_code": "workspace_suspended", "last_tick_at": "2026-11-01T02:00:00Z"}
    edge.on("GET /v1/schedules", (200, {"items": [broken], "next_cursor": None}))
    shown = remit("schedules", "list", "--limit", "5").stdout
    assert edge.asked[0].path == "/v1/schedules?limit=5"
    for expected in ("nightly", "Europe/Berlin", "workspace_suspended", "s1"):
        assert expected in shown
    assert json.loads(remit("schedules", "list", "--json").stdout) == {"items": [broken]}
    edge.on("GET /v1/schedules", (200, {"items": [], "next_cursor": None}))
    assert "no schedules yet: remit schedules create" in remit("schedules", "list").stdout


def test_one_schedule_is_shown(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/schedules/s1", (200, SCHEDULE | {"last_error_detail": "[it] is suspended"}))
    shown = remit("schedules", "get", "s1").stdout
    assert "[it] is suspended" in shown
    assert "paused at" not in shown
    assert json.loads(remit("schedules", "get", "s1", "--json").stdout)["input"] == {"text": "x"}


def test_pausing_says_why_and_resuming_when_it_goes_on(edge: ScriptedEdge, remit: Terminal) -> None:
    paused = SCHEDULE | {"paused_at": "2026-11-01T08:00:00Z", "pause_reason": "too dear", "next_tick_at": None}
    edge.on("POST /v1/schedules/s1/pause", (200, paused))
    edge.on("POST /v1/schedules/s1/resume", (200, SCHEDULE))
    shown = " ".join(remit("schedules", "pause", "s1", "--reason", "too dear").stdout.split())
    assert "paused at 2026-11-01 08:00:00" in shown
    assert "pause reason too dear" in shown
    assert "next tick at" not in shown
    assert edge.asked[0].body == {"reason": "too dear"}
    assert "next tick at" in " ".join(remit("schedules", "resume", "s1").stdout.split())
    assert edge.asked[1].body == {}
    assert json.loads(remit("schedules", "pause", "s1", "--json").stdout)["pause_reason"] == "too dear"
    assert json.loads(remit("schedules", "resume", "s1", "--json").stdout)["paused_at"] is None
    assert [each.path.rsplit("/", 1)[-1] for each in edge.asked] == ["pause", "resume", "pause", "resume"]


def test_a_backfill_shows_what_each_tick_came_to(edge: ScriptedEdge, remit: Terminal) -> None:
    ticks = {
        "items": [
            {"tick_at": "2026-11-01T02:00:00Z", "run_id": "r1", "error_code": ""},
            {"tick_at": "2026-11-02T02:00:00Z", "run_id": None, "error_code": "rate_limited"},
        ]
    }
    edge.on("POST /v1/schedules/s1/backfill", (200, ticks))
    said = ("schedules", "backfill", "s1", "2026-11-01T00:00+01:00", "2026-11-03T00:00Z")
    first, second = remit(*said).stdout.splitlines()[1:]
    assert first.split() == ["2026-11-01", "02:00:00", "r1", "-"]
    assert second.split() == ["2026-11-02", "02:00:00", "-", "rate_limited"]
    assert edge.asked[0].body == {"start": "2026-11-01T00:00:00+01:00", "end": "2026-11-03T00:00:00+00:00"}
    assert json.loads(remit(*said, "--json").stdout) == ticks
    edge.on("POST /v1/schedules/s1/backfill", (200, {"items": []}))
    assert "no tick in that time" in remit(*said).stdout


@pytest.mark.parametrize(
    ("moment", "said"), [("yesterday", "is no time"), ("2026-11-01T00:00", "write 2026-11-01T00:00Z")]
)
def test_a_moment_that_could_be_another_is_not_sent(
    edge: ScriptedEdge, remit: Terminal, moment: str, said: str
) -> None:
    result = remit("schedules", "backfill", "s1", moment, "2026-11-03T00:00Z")
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", "").split())
    assert edge.asked == []


def test_deleting_says_that_it_is_gone(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("DELETE /v1/schedules/s1", (204, b""))
    assert remit("schedules", "delete", "s1").stdout == "schedule s1 is gone\n"
    (asked,) = edge.asked
    assert (asked.method, asked.path, asked.body) == ("DELETE", "/v1/schedules/s1", None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "s9"),
        ("pause", "s9"),
        ("resume", "s9"),
        ("delete", "s9"),
        ("backfill", "s9", "2026-11-01T00:00Z", "2026-11-03T00:00Z"),
        ("create", "nightly", "--cron", "0 3 * * *", "--agent", "nobody"),
    ],
)
def test_what_does_not_exist_is_refused_in_the_edges_words(
    edge: ScriptedEdge, remit: Terminal, arguments: tuple[str, ...]
) -> None:
    result = remit("schedules", *arguments)
    refused = result.exception
    assert isinstance(refused, RefusedError)
    assert (refused.status, refused.code, str(refused)) == (404, "not_found", "There is nothing here.")
    assert result.stdout == ""
    assert len(edge.asked) == 1
