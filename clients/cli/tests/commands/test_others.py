import json
from pathlib import Path

import pytest
from clients.cli.tests.conftest import ScriptedEdge, Terminal

KEY = {"id": "k1", "name": "ci", "role": "developer", "is_active": True, "expires_at": None}
POLICY = {"id": "p1", "name": "rules", "rules_yaml": "old", "priority": 100, "version": 3, "revision": 3}
USAGE = {
    "items": [{"key": "a1", "steps": 2, "input_tokens": 5, "output_tokens": 3, "cost_usd_micros": 1_250_000}],
    "total_cost_usd_micros": 1_250_000,
    "first_day": "2026-11-01",
    "last_day": "2026-11-30",
}


def test_a_new_key_is_shown_once(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("POST /v1/api-keys", (201, KEY | {"api_key": "rmt_shown"}))
    result = remit("keys", "create", "ci", "--role", "developer", "--scope", "run:read")
    assert "rmt_shown" in result.stdout
    assert edge.asked[0].body == {"name": "ci", "role": "developer", "scopes": ["run:read"]}


def test_a_providers_key_comes_from_the_environment_only(
    edge: ScriptedEdge, remit: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.on("POST /v1/model-credentials", (201, {"id": "c1"}))
    arguments = ("credentials", "add", "mine", "--provider", "openai", "--secret-env", "SOME_KEY")
    assert "SOME_KEY is not set" in str(remit.refused(*arguments))
    monkeypatch.setenv("SOME_KEY", "sk-1")
    result = remit(*arguments)
    assert edge.asked[0].body["secret"] == "sk-1"
    assert "sk-1" not in result.output


def test_policies_are_created_changed_or_left_alone(edge: ScriptedEdge, remit: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("new")
    edge.on(
        "GET /v1/policies",
        (200, {"items": [], "next_cursor": None}),
        (200, {"items": [POLICY], "next_cursor": None}),
        (200, {"items": [POLICY | {"rules_yaml": "new"}], "next_cursor": None}),
    )
    edge.on("POST /v1/policies", (201, POLICY))
    edge.on("PATCH /v1/policies/p1", (200, POLICY | {"revision": 4}))
    assert "created" in remit("policies", "apply", str(file)).stdout
    assert "revision 4: changed" in remit("policies", "apply", str(file)).stdout
    assert edge.asked[-1].headers["If-Match"] == '"3"'
    assert "unchanged" in remit("policies", "apply", str(file)).stdout


def test_a_simulation_says_by_whom_it_has_to_be_approved(edge: ScriptedEdge, remit: Terminal) -> None:
    clause = {"rule_name": "four-eyes", "effect": "require_approval", "text": "always", "truth": True, "error": ""}
    answer = {
        "effect": "require_approval", "rule_name": "four-eyes", "policy_id": "p1", "reason": "dear", "obligations": [],
        "error": False, "own_only": False, "clauses": [clause],
        "approval": {"approvers": ["role:operator", "user:u1"], "expires_in_seconds": 14400, "gates": ["p1/four-eyes"]},
    }  # fmt: skip
    edge.on("POST /v1/policies/simulate", (200, answer), (200, answer | {"effect": "allow", "approval": None}))
    said = ("policies", "simulate", "agent:execute", "--role", "developer", "--attr", "risk_level=high")
    shown = remit(*said, "--run", "estimated_cost_usd=2.5").stdout
    assert "approval required by role:operator or user:u1, within 4 hours" in shown
    assert edge.asked[0].body == {
        "principal": {"id": "somebody", "roles": ["developer"]},
        "action": "agent:execute",
        "resource": {"kind": "agent", "id": "something", "attr": {"risk_level": "high"}},
        "run": {"estimated_cost_usd": 2.5},
    }
    assert "approval required" not in remit(*said).stdout
    assert "NAME=VALUE" in remit("policies", "simulate", "x:y", "--role", "viewer", "--attr", "high").output


def test_usage_is_money_for_people_and_micros_for_programs(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/usage", (200, USAGE))
    assert "$1.25" in remit("usage", "--by", "agent").stdout
    assert json.loads(remit("usage", "--json").stdout)["total_cost_usd_micros"] == 1_250_000


def test_audit_entries_of_a_run(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/audit-entries", (200, {"items": [], "next_cursor": None}))
    assert "no entries" in remit("audit", "list", "--run", "r1").stdout
    assert edge.asked[0].path == "/v1/audit-entries?limit=50&run_id=r1"


def test_without_edge_and_data_the_message_says_what_to_do(
    remit: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REMIT_EDGE", raising=False)
    monkeypatch.delenv("REMIT_API_KEY", raising=False)
    assert "remit up" in str(remit.refused("--data", str(tmp_path), "runs", "list"))


def test_the_demos_keys_are_chosen_by_role(
    edge: ScriptedEdge, remit: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REMIT_EDGE")
    monkeypatch.delenv("REMIT_API_KEY")
    keys = {"org_owner": "rmt_owner", "viewer": "rmt_viewer"}
    (tmp_path / "demo.json").write_text(json.dumps({"edge": edge.url, "api_keys": keys}))
    edge.on("GET /v1/runs", (200, {"items": [], "next_cursor": None}))
    remit("--data", str(tmp_path), "runs", "list")
    remit("--data", str(tmp_path), "--as", "viewer", "runs", "list")
    assert [each.headers["Authorization"][7:] for each in edge.asked] == ["rmt_owner", "rmt_viewer"]
    assert "org_owner, viewer" in str(remit.refused("--data", str(tmp_path), "--as", "nobody", "runs", "list"))


ASKED = {
    "id": "a1", "status": "pending", "action": "agent:execute", "rule_name": "four-eyes", "digest": "d",
    "context": {"amount": 7}, "requester_id": "u1", "run_id": "r1",
}  # fmt: skip


def test_whoever_approves_says_so_of_exactly_what_was_shown(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/approvals/a1", (200, ASKED), (200, ASKED))
    edge.on("POST /v1/approvals/a1/decide", (200, ASKED | {"status": "approved", "approver_id": "u2"}))
    assert "remit approvals approve|reject a1" in remit("approvals", "show", "a1").stdout
    shown = remit("approvals", "approve", "a1", "--reason", "it is right").stdout
    assert edge.asked[-1].body == {"outcome": "approved", "reason": "it is right", "digest": "d"}
    assert "u2" in shown
    assert "remit approvals approve|reject" not in shown


def test_requests_are_listed_by_status(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/approvals", (200, {"items": [ASKED], "next_cursor": None}))
    assert "four-eyes" in remit("approvals", "list", "--status", "pending").stdout
    assert "status=pending" in edge.asked[-1].path


def test_a_price_is_said_in_dollars_and_kept_in_whole_millionths(edge: ScriptedEdge, remit: Terminal) -> None:
    made = {"id": "m1", "provider": "openai-compatible", "model_name": "llama-*"}
    edge.on("POST /v1/model-prices", (201, made))
    said = ("prices", "add", "openai-compatible", "llama-*", "--output-usd", "0.6", "--input-usd")
    assert "llama-*" in remit(*said, "0.15").stdout
    sent = edge.asked[0].body
    assert (sent["input_usd_micros_per_million"], sent["output_usd_micros_per_million"]) == (150_000, 600_000)
    for wrong in ("cheap", "-1", "inf"):
        assert "a price is a number of dollars" in str(remit.refused(*said, wrong))


def test_hosts_are_allowed_and_removed_by_name(edge: ScriptedEdge, remit: Terminal) -> None:
    row = {"id": "h1", "host": "*.example.com", "created_by": "u1", "created_at": "2026-11-01T00:00:00Z"}
    edge.on("POST /v1/allowed-hosts", (201, row))
    edge.on("DELETE /v1/allowed-hosts/h1", (204, b""))
    edge.on(
        "GET /v1/allowed-hosts",
        (200, {"items": [row], "next_cursor": None}),
        (200, {"items": [row], "next_cursor": None}),
        (200, {"items": [], "next_cursor": None}),
    )
    assert "*.example.com" in remit("hosts", "allow", "*.example.com").stdout
    assert "*.example.com" in remit("hosts", "list").stdout
    assert "no longer" in remit("hosts", "remove", "*.example.com").stdout
    assert edge.asked[-1].method == "DELETE"
    assert remit("hosts", "remove", "*.example.com").exit_code == 2
