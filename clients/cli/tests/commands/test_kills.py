import json
from typing import Any

import pytest
from clients.cli.tests.conftest import ScriptedEdge, Terminal

from remit_cli.failures import RefusedError

SWITCH: dict[str, Any] = {
    "id": "k1", "organization_id": "o1", "scope": "agent", "target_id": "a1", "reason": "spends [without] end",
    "created_by": "u1", "created_at": "2026-11-01T09:30:00.25Z", "released_at": None, "released_by": None,
}  # fmt: skip
STOPPED = SWITCH | {"stopped": 2, "stopping": 1, "calls_left": [f"s{number}" for number in range(7)]}
RELEASED = {"released_at": "2026-11-01T10:00:00Z", "released_by": "u1"}


def test_engaging_says_what_is_stopped_and_how_to_release_it(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/kill-switches", (201, STOPPED))
    shown = remit("kill", "engage", "agent", "a1", "--reason", "spends [without] end").stdout
    assert "kill switch k1 of agent a1: engaged" in shown
    assert "2 runs stopped, 1 stopping" in shown
    assert "7 calls had left already: s0, s1, s2, s3, s4\n" in shown
    assert "remit kill release k1" in shown
    (asked,) = edge.asked
    assert (asked.method, asked.path) == ("POST", "/v1/kill-switches")
    assert asked.body == {"scope": "agent", "target_id": "a1", "reason": "spends [without] end"}
    assert json.loads(remit("kill", "engage", "agent", "a1", "--json").stdout) == STOPPED
    assert edge.asked[1].body["reason"] == ""


def test_the_organization_itself_needs_no_id(edge: ScriptedEdge, remit: Terminal) -> None:
    whole = {"scope": "organization", "target_id": "o1", "stopped": 0, "stopping": 0, "calls_left": []}
    edge.on("POST /v1/kill-switches", (201, STOPPED | whole))
    shown = remit("kill", "engage", "organization").stdout
    assert edge.asked[0].body == {"scope": "organization", "target_id": None, "reason": ""}
    assert "of organization o1: engaged" in shown
    assert "had left" not in shown


def test_a_scope_that_is_none_is_never_sent(edge: ScriptedEdge, remit: Terminal) -> None:
    result = remit("kill", "engage", "everything")
    assert result.exit_code == 2
    assert "workspace" in result.output
    assert edge.asked == []


def test_a_switch_is_shown_with_what_it_has_stopped_so_far(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/kill-switches/k1", (200, STOPPED | {"stopped": 3, "stopping": 0}))
    assert "3 runs stopped, 0 stopping" in remit("kill", "get", "k1").stdout
    found = json.loads(remit("kill", "get", "k1", "--json").stdout)
    assert (found["stopped"], len(found["calls_left"])) == (3, 7)


def test_releasing_says_so_and_not_how_to_release(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/kill-switches/k1/release", (200, STOPPED | RELEASED | {"stopping": 0}))
    shown = remit("kill", "release", "k1").stdout
    assert "kill switch k1 of agent a1: released" in shown
    assert "remit kill release" not in shown
    assert (edge.asked[0].method, edge.asked[0].path) == ("POST", "/v1/kill-switches/k1/release")
    assert json.loads(remit("kill", "release", "k1", "--json").stdout)["released_by"] == "u1"


def test_switches_are_listed_page_by_page(edge: ScriptedEdge, remit: Terminal) -> None:
    second = SWITCH | RELEASED | {"id": "k2"}
    pages = ((200, {"items": [SWITCH], "next_cursor": "c"}), (200, {"items": [second], "next_cursor": None}))
    edge.on("GET /v1/kill-switches", *pages)
    shown = remit("kill", "list", "--limit", "2").stdout
    assert [each.path for each in edge.asked] == [
        "/v1/kill-switches?limit=2", "/v1/kill-switches?limit=1&cursor=c",
    ]  # fmt: skip
    engaged, released = shown.splitlines()[1:]
    assert engaged.split() == ["k1", "agent", "a1", "spends", "[without]", "end", "2026-11-01", "09:30:00", "-"]
    assert released.split()[-2:] == ["2026-11-01", "10:00:00"]
    edge.on("GET /v1/kill-switches", *pages)
    assert [each["id"] for each in json.loads(remit("kill", "list", "--json").stdout)["items"]] == ["k1", "k2"]


def test_where_there_is_none_the_list_says_so(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/kill-switches", (200, {"items": [], "next_cursor": None}))
    assert remit("kill", "list").stdout.strip() == "no kill switches"
    assert json.loads(remit("kill", "list", "--json").stdout) == {"items": []}


@pytest.mark.parametrize("arguments", [("get", "k9"), ("release", "k9"), ("engage", "agent", "a9")])
def test_what_does_not_exist_is_refused_in_the_edges_words(
    edge: ScriptedEdge, remit: Terminal, arguments: tuple[str, ...]
) -> None:
    refused = remit.refused("kill", *arguments)
    assert isinstance(refused, RefusedError)
    assert (refused.status, refused.code, str(refused)) == (404, "not_found", "There is nothing here.")
    assert len(edge.asked) == 1
