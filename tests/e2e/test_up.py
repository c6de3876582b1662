"""From nothing to an explained run, and through every way of stopping, as a person would do it."""

import os
import re
import signal
import stat
import time
from typing import Any

import pytest
from tests.e2e.conftest import UP_SECONDS, Platform

from remit_local.process import is_alive

pytestmark = [pytest.mark.seconds(UP_SECONDS + 60), pytest.mark.xdist_group("one platform")]
REVOKED_SECONDS = 2


def explained(platform: Platform) -> dict[str, Any]:
    found = platform.ask("GET", f"/v1/runs/{platform.demo['run_id']}/explain", platform.demo["api_keys"]["org_owner"])
    assert found.status == 200, found.body
    body: dict[str, Any] = found.body
    return body


def test_the_first_up_ends_with_an_explained_run_of_a_real_model(platform: Platform) -> None:
    shown = platform.first_output
    assert "✓ facts" in shown
    assert "✓ summary" in shown
    assert re.search(r"decision +allow by rule", shown)
    assert re.search(r"version +1\.0\.0 +sha256:[0-9a-f]{64}", shown)
    assert re.search(r"tokens +[1-9]\d* in, [1-9]\d* out", shown)
    assert "execution.run.completed.v1" in shown
    assert re.search(r"trace +[0-9a-f]{32}", shown)
    assert "credential: mine" in shown


def test_the_demo_file_is_private_and_has_a_key_for_each_role(platform: Platform) -> None:
    demo = platform.demo
    assert stat.S_IMODE((platform.folder / "demo.json").stat().st_mode) == 0o600
    assert set(demo["api_keys"]) == {"org_owner", "org_admin", "developer", "operator", "viewer", "platform_admin"}
    for role, key in demo["api_keys"].items():
        me = platform.ask("GET", "/v1/me", key)
        assert me.body["roles"] == [role]
        assert (me.body["organization_id"] == demo["organization_id"]) == (role != "platform_admin")


def test_one_id_explains_the_run_and_every_service_agrees(platform: Platform) -> None:
    found = explained(platform)
    run = found["run"]
    assert found["pending"] == []
    assert run["output"]["text"]
    assert found["decision"]["effect"] == "allow"
    assert [step["status"] for step in found["steps"]][-1] == "completed"
    assert sum(step["cost_usd_micros"] for step in found["steps"]) == run["cost_usd_micros"] > 0
    owner = platform.demo["api_keys"]["org_owner"]
    booked = platform.ask("GET", f"/v1/usage-events?run_id={run['id']}", owner).body["items"]
    assert sum(event["cost_usd_micros"] for event in booked) == run["cost_usd_micros"]
    entries = platform.ask("GET", f"/v1/audit-entries?run_id={run['id']}", owner).body["items"]
    assert {entry["id"] for entry in entries} >= {entry["id"] for entry in found["audit_entries"]}
    assert {entry["trace_id"] for entry in entries} == {found["trace_id"]}


def test_a_second_organization_works_beside_and_sees_nothing(platform: Platform) -> None:
    body = {"name": "Second", "slug": f"second-{time.time_ns()}", "owner_email": "owner@second.localhost"}
    made = platform.ask("POST", "/v1/organizations", platform.demo["api_keys"]["platform_admin"], body)
    assert made.status == 201, made.body
    stranger = made.body["api_key"]
    deadline = time.monotonic() + 10
    while platform.ask("GET", "/v1/me", stranger).status == 401 and time.monotonic() < deadline:
        time.sleep(0.05)
    run_id, agent_id = platform.demo["run_id"], explained(platform)["version"]["agents"]["reader"]["agent_id"]
    for path in (
        f"/v1/runs/{run_id}",
        f"/v1/runs/{run_id}/steps",
        f"/v1/runs/{run_id}/explain",
        f"/v1/agents/{agent_id}",
    ):
        assert platform.ask("GET", path, stranger).status == 404, path
    assert platform.ask("GET", "/v1/runs", stranger).body["items"] == []
    assert platform.ask("GET", f"/v1/audit-entries?run_id={run_id}", stranger).body["items"] == []
    agent = {
        "name": "mine",
        "config_yaml": "apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}\ninstructions: Say hi.\n",
    }
    created = platform.ask("POST", "/v1/agents", stranger, agent)
    assert created.status in (201, 409), created.body  # its workspace may still be on its way
    assert platform.ask("GET", "/v1/agents?name=mine", platform.demo["api_keys"]["org_owner"]).body["items"] == []


def test_a_revoked_key_ends_within_two_seconds(platform: Platform) -> None:
    owner = platform.demo["api_keys"]["org_owner"]
    made = platform.ask("POST", "/v1/api-keys", owner, {"name": "short", "role": "viewer"}).body
    deadline = time.monotonic() + 10
    while platform.ask("GET", "/v1/me", made["api_key"]).status == 401 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert platform.ask("GET", "/v1/me", made["api_key"]).status == 200
    assert platform.ask("POST", f"/v1/api-keys/{made['id']}/revoke", owner).status == 200
    time.sleep(REVOKED_SECONDS)
    assert platform.ask("GET", "/v1/me", made["api_key"]).status == 401


def test_a_viewer_may_look_but_not_start_and_nothing_is_left_of_the_attempt(platform: Platform) -> None:
    keys = platform.demo["api_keys"]
    before = platform.ask("GET", "/v1/runs", keys["org_owner"]).body["items"]
    refused = platform.ask("POST", "/v1/runs", keys["viewer"], {"orchestration": "digest", "input": {"text": "x"}})
    assert refused.status == 403
    assert platform.ask("GET", "/v1/runs", keys["org_owner"]).body["items"] == before
    seen = platform.ask("GET", f"/v1/runs/{platform.demo['run_id']}", keys["viewer"]).body
    assert seen["masked"] == ["input", "output"]
    assert seen["output"] is None


def test_up_again_says_how_it_is(platform: Platform) -> None:
    again = platform.remit("up")
    assert again.returncode == 0
    assert f"ready at http://127.0.0.1:{platform.port}" in again.stdout
    doctor = platform.remit("doctor")
    assert doctor.returncode == 0, doctor.stdout


def test_kill_9_of_the_supervisor_leaves_no_process_and_loses_nothing(platform: Platform) -> None:
    before, demo, state = explained(platform), platform.demo, platform.state
    pids = [child["pid"] for child in state["children"].values() if child["pid"]]
    os.kill(state["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if is_alive(pid)] == []
    assert platform.remit("status").returncode == 1
    assert platform.remit("runs", "list").returncode == 3
    shown = platform.up()
    assert "`remit demo` shows the main job again" in shown
    assert platform.demo == demo
    assert explained(platform) == before


def test_down_leaves_no_process(platform: Platform) -> None:
    pids = [child["pid"] for child in platform.state["children"].values() if child["pid"]]
    assert platform.remit("down").returncode == 0
    assert [pid for pid in pids if is_alive(pid)] == []
    assert platform.remit("status").returncode == 1
    platform.up()
