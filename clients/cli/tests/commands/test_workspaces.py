import json

from clients.cli.tests.conftest import ScriptedEdge, Terminal

from remit_cli.watch import hindrance_text

PLACE = {
    "id": "w1", "name": "live", "environment_type": "production", "description": "", "status": "active",
    "max_agents": 100, "max_concurrent_executions": 64, "promotion_from": None, "requires_approval": True,
    "required_approvers": [], "pii_allowed": False, "encryption_required": False, "retention_days": 90, "version": 4,
    "created_at": "2026-11-01T00:00:00Z", "updated_at": "2026-11-01T00:00:00Z",
}  # fmt: skip
COUNT = "/v1/runs/count?workspace_id=w1&status%5Bin%5D="


def stand(edge: ScriptedEdge, *, status: str = "active", running: int = 3, queued: int = 7) -> None:
    """A workspace with open runs, that changes as it is told."""
    edge.on("GET /v1/workspaces", (200, {"items": [PLACE | {"status": status}], "next_cursor": None}))
    edge.on("GET /v1/workspaces/w1", (200, PLACE | {"status": status}))
    for statuses, count in (("running,cancelling", running), ("waiting", 1 if queued else 0), ("queued", queued)):
        edge.on(f"GET {COUNT}{statuses}", (200, {"count": count}))


def test_drain_says_what_it_does_and_what_is_still_open(edge: ScriptedEdge, remit: Terminal) -> None:
    stand(edge)
    edge.on("PATCH /v1/workspaces/w1/limits", (200, PLACE | {"status": "draining", "version": 5}))
    shown = remit("workspaces", "drain", "live").stdout
    assert "live is draining: it takes no new runs until it is resumed" in shown
    assert "open runs: 3 running, 1 waiting, 7 queued" in shown
    assert "remit workspaces resume live" in shown
    (patch,) = [each for each in edge.asked if each.method == "PATCH"]
    assert (patch.body, patch.headers["If-Match"]) == ({"status": "draining"}, '"4"')
    found = json.loads(remit("workspaces", "drain", "live", "--json").stdout)
    assert (found["status"], found["open_runs"]) == ("draining", {"running": 3, "waiting": 1, "queued": 7})


def test_resume_lets_runs_start_again(edge: ScriptedEdge, remit: Terminal) -> None:
    stand(edge, status="draining", running=0)
    edge.on("PATCH /v1/workspaces/w1/limits", (200, PLACE | {"version": 5}))
    shown = remit("workspaces", "resume", "live").stdout
    assert "live is active" in shown
    assert "open runs: 0 running, 1 waiting, 7 queued" in shown
    assert edge.asked[2].body == {"status": "active"}


def test_workspaces_are_listed_and_shown_with_their_status(edge: ScriptedEdge, remit: Terminal) -> None:
    stand(edge, status="draining", running=0, queued=0)
    assert "draining" in remit("workspaces", "list", "--status", "draining").stdout
    assert edge.asked[0].path == "/v1/workspaces?limit=100&status=draining"
    shown = remit("workspaces", "show", "live").stdout
    assert "draining" in shown
    assert "no run is open there" in shown


def test_whoever_may_not_count_runs_drains_all_the_same(edge: ScriptedEdge, remit: Terminal) -> None:
    stand(edge)
    edge.on("PATCH /v1/workspaces/w1/limits", (200, PLACE | {"status": "draining", "version": 5}))
    edge.on(f"GET {COUNT}running,cancelling", (403, {"status": 403, "code": "missing_permission", "detail": "No."}))
    shown = remit("workspaces", "drain", "live").stdout
    assert "is draining" in shown
    assert "you may not count its runs" in shown


def test_an_unknown_workspace_is_named(edge: ScriptedEdge, remit: Terminal) -> None:
    edge.on("GET /v1/workspaces", (200, {"items": [], "next_cursor": None}))
    assert "no workspace named 'dev'" in remit("workspaces", "drain", "dev").output


def test_a_run_that_waits_for_it_says_so() -> None:
    assert "draining" in hindrance_text({"reason": "workspace draining"})
    assert hindrance_text({"reason": "workspace suspended"}) == "its workspace is suspended"
