import json
from typing import Any

from clients.cli.tests.conftest import ScriptedEdge, Terminal

STARTED: dict[str, Any] = {
    "id": "e1", "agent_id": "a1", "semver": "1.0.0", "completed_at": None, "eval_count": 2, "passed_count": 0,
}  # fmt: skip
RESULT = {"name": "smoke", "run_id": "r1", "status": "completed", "verdict": "true", "error_code": ""}
OTHER = RESULT | {"name": "other", "run_id": "r2"}


def ended(*verdicts: str) -> dict[str, Any]:
    results = [result | {"verdict": verdict} for result, verdict in zip((RESULT, OTHER), verdicts, strict=True)]
    over = {"completed_at": "2026-11-01T00:00:00Z", "passed_count": verdicts.count("true"), "results": results}
    return STARTED | over


def script(edge: ScriptedEdge, *verdicts: str) -> None:
    edge.on("GET /v1/agents?name=contact&limit=2", (200, {"items": [{"id": "a1"}], "next_cursor": None}))
    edge.on("POST /v1/agents/a1/versions/current/evaluate", (202, STARTED))
    going = STARTED | {"results": [RESULT | {"verdict": None}, OTHER]}
    edge.on("GET /v1/agents/a1/versions/1.0.0/evaluations/e1", (200, going), (200, ended(*verdicts)))


def test_eval_waits_and_prints_what_came_of_each(edge: ScriptedEdge, remit: Terminal) -> None:
    script(edge, "true", "true")
    result = remit("agents", "eval", "contact")
    assert result.exit_code == 0, result.output
    assert "smoke" in result.stdout
    assert "2 of 2 as expected" in result.stdout
    assert [asked.path for asked in edge.asked].count("/v1/agents/a1/versions/1.0.0/evaluations/e1") == 2


def test_eval_ends_with_1_where_one_is_not_true(edge: ScriptedEdge, remit: Terminal) -> None:
    for verdict in ("false", "error"):
        script(edge, "true", verdict)
        result = remit("agents", "eval", "contact", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["results"][1]["verdict"] == verdict
