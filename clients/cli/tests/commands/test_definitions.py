import json
from pathlib import Path

from clients.cli.tests.conftest import ScriptedEdge, Terminal

AGENT = {
    "id": "01a20564-97c1-738c-9032-291e75e86993",
    "name": "document",
    "current_version": "1.0.1",
    "status": "active",
}


def test_apply_says_what_changed(edge: ScriptedEdge, remit: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "document.agent.yaml"
    file.write_text("kind: llm")
    edge.on(
        "POST /v1/agents/apply", (200, {"agent": AGENT, "changed": ["version"]}), (200, {"agent": AGENT, "changed": []})
    )
    found = {"severity": "high", "code": "secret", "path": "instructions", "message": "This looks like a key."}
    scanned = {"passed": False, "findings": [found], "left_out": 0}
    edge.on(f"GET /v1/agents/{AGENT['id']}/versions/1.0.1", (200, {"security_scan_results": scanned}))
    result = remit("agents", "apply", str(file), "--workspace", "staging")
    assert "agent document 1.0.1: version" in result.stdout
    assert "high at instructions: This looks like a key." in result.stdout
    assert "It does not run before this is mended" in result.stdout
    assert edge.asked[0].body == {"file": "kind: llm", "workspace": "staging"}
    assert "unchanged" in remit("agents", "apply", str(file)).stdout


def test_a_missing_file_is_named(edge: ScriptedEdge, remit: Terminal) -> None:
    assert "nowhere.yaml" in str(remit.refused("agents", "apply", "nowhere.yaml"))


def test_get_finds_by_name_and_by_id(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/agents?name=document&limit=2", (200, {"items": [AGENT], "next_cursor": None}))
    edge.on(f"GET /v1/agents/{AGENT['id']}", (200, AGENT | {"config_yaml": "kind: llm [x]"}))
    assert "kind: llm [x]" in remit("agents", "get", "document").stdout
    assert json.loads(remit("agents", "get", AGENT["id"], "--json").stdout)["name"] == "document"


def test_an_unknown_name_is_wrong_usage(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/orchestrations", (200, {"items": [], "next_cursor": None}))
    result = remit("orchestrations", "delete", "nothing")
    assert result.exit_code == 2
    assert "no orchestration named 'nothing'" in result.output


def test_lists_are_tables_or_json(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/agents", (200, {"items": [AGENT], "next_cursor": None}))
    assert "document" in remit("agents", "list").stdout
    assert json.loads(remit("agents", "list", "--json").stdout)["items"] == [AGENT]


def test_rollback_names_the_version_that_runs_now(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/agents?name=document&limit=2", (200, {"items": [AGENT], "next_cursor": None}))
    edge.on(f"POST /v1/agents/{AGENT['id']}/rollback", (200, AGENT | {"current_version": "1.0.0"}))
    assert "agent document runs 1.0.0" in remit("agents", "rollback", "document", "--reason", "worse").stdout
    assert edge.asked[-1].body == {"reason": "worse"}
    remit("agents", "rollback", AGENT["id"], "--to", "1.0.0")
    assert edge.asked[-1].body == {"reason": "", "to": "1.0.0"}


def test_promote_says_where_a_version_went(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/workspaces?name=dev&limit=2", (200, {"items": [{"id": "w1"}], "next_cursor": None}))
    edge.on("GET /v1/agents?name=document&limit=2&workspace_id=w1", (200, {"items": [AGENT], "next_cursor": None}))
    edge.on(f"POST /v1/agents/{AGENT['id']}/promote", (200, {"agent": AGENT, "changed": ["created"]}))
    result = remit("agents", "promote", "document", "--workspace", "dev", "--to", "staging", "--version", "1.0.1")
    assert "agent document 1.0.1 in staging: created" in result.stdout
    assert edge.asked[-1].body == {"to_workspace": "staging", "version": "1.0.1"}
    asked = {"id": "p1", "status": "pending", "approvers": ["role:operator"], "semver": "1.0.1", "error_code": None}
    edge.on(f"POST /v1/agents/{AGENT['id']}/promote", (202, asked))
    said = remit("agents", "promote", AGENT["id"], "--to", "production").stdout
    assert "waits for an approval by role:operator: remit approvals show p1" in said
    edge.on(f"GET /v1/agents/{AGENT['id']}/promotions", (200, {"items": [asked], "next_cursor": None}))
    assert "pending" in remit("agents", "promotions", AGENT["id"]).stdout
    assert remit("orchestrations", "promote", "x", "--to", "staging").exit_code == 2
