"""People decide about runs: what the edge, two services and the log between them make of it together."""

from __future__ import annotations

from typing import Any

import pytest
from tests.town import Town, until

pytestmark = [pytest.mark.anyio, pytest.mark.seconds(150)]
PAY = """apiVersion: orchestration/v1
pattern: approval
before: {agent: payer}
approvers: {roles: [org_owner]}
bind: [topic]
"""
ASKS_NOBODY = """apiVersion: agent/v1
kind: llm
model: {provider: embedded}
instructions: Say something.
"""
GATE = """apiVersion: policy/v1
type: abac
rules:
  - rule_name: four-eyes
    effect: require_approval
    actions: ["agent:execute"]
    when: resource.attr.name == 'worker'
    approval: {expires_in: 1h}
"""


class Desk:
    """A developer who asks and an owner who decides, in one organization."""

    def __init__(self, town: Town, developer: str) -> None:
        self.town, self.owner, self.developer = town, town.south.key, developer

    async def start(self, **what: Any) -> dict[str, Any]:
        reply = await self.town.ask("POST", "/v1/runs", self.developer, {"input": {"topic": "rivers"}, **what})
        assert reply.status == 202, reply.body
        return dict(reply.json)

    async def asked(self, run: dict[str, Any]) -> dict[str, Any]:
        async def pending() -> Any:
            path = f"/v1/approvals?run_id={run['id']}&status=pending"
            return (await self.town.ask("GET", path, self.owner)).json["items"]

        return dict((await until(pending, "a request for an approval"))[0])

    async def decide(self, request: dict[str, Any], outcome: str, key: str | None = None) -> Any:
        body = {"outcome": outcome, "reason": "because", "digest": request["digest"]}
        return await self.town.ask("POST", f"/v1/approvals/{request['id']}/decide", key or self.owner, body)

    async def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        async def over() -> Any:
            found = (await self.town.ask("GET", f"/v1/runs/{run['id']}", self.owner)).json
            return found if found["status"] in ("completed", "failed", "cancelled") else None

        return dict(await until(over, "the run's end"))


@pytest.fixture
async def desk(town: Town) -> Desk:
    body = {"name": "a developer's", "role": "developer"}
    made = await town.traffic.send("POST", "/v1/api-keys", town.south.key, body)

    async def known() -> bool:
        return (await town.ask("GET", "/v1/me", made["api_key"])).status == 200

    await until(known, "the key is known everywhere")
    return Desk(town, made["api_key"])


async def pay(desk: Desk) -> str:
    """An orchestration whose agent acts once the owner has approved."""
    agents = (await desk.town.ask("GET", "/v1/agents?name=worker", desk.owner)).json["items"]
    found = (await desk.town.ask("GET", "/v1/orchestrations?name=pay", desk.owner)).json["items"]
    if not found:
        body = {"name": "pay", "config_yaml": PAY, "agent_ids": {"payer": {"id": agents[0]["id"]}}}
        found = [await desk.town.traffic.send("POST", "/v1/orchestrations", desk.owner, body)]
    return str(found[0]["id"])


async def test_a_step_waits_for_a_person_and_the_explanation_names_them(desk: Desk) -> None:
    run = await desk.start(orchestration=await pay(desk))
    request = await desk.asked(run)
    assert (request["context"], request["approvers"]) == ({"topic": "rivers"}, ["role:org_owner"])
    own = await desk.decide(request, "approved", desk.developer)
    assert own.status in (403, 404)
    assert (await desk.decide(request, "approved")).status == 200
    assert (await desk.ended(run))["status"] == "completed"

    async def whole() -> Any:
        told = (await desk.town.ask("GET", f"/v1/runs/{run['id']}/explain", desk.owner)).json
        return told if not told["pending"] else None

    told = await until(whole, "a whole explanation")
    assert [(one["status"], one["reason"]) for one in told["approvals"]] == [("approved", "because")]
    recorded = [entry["event_type"] for entry in told["audit_entries"]]
    assert "execution.run.wait_started.v1" in recorded


async def test_a_rejected_step_is_never_done(desk: Desk) -> None:
    run = await desk.start(orchestration=await pay(desk))
    assert (await desk.decide(await desk.asked(run), "rejected")).status == 200
    ended = await desk.ended(run)
    assert (ended["status"], ended["error_code"], ended["step_count"]) == ("failed", "approval_rejected", 1)


async def test_a_cancelled_run_takes_its_question_back(desk: Desk) -> None:
    run = await desk.start(orchestration=await pay(desk))
    request = await desk.asked(run)
    await desk.town.traffic.send("POST", f"/v1/runs/{run['id']}/cancel", desk.owner)

    async def withdrawn() -> bool:
        found = (await desk.town.ask("GET", f"/v1/approvals/{request['id']}", desk.owner)).json
        return bool(found["status"] == "withdrawn")

    await until(withdrawn, "the request is withdrawn")
    late = await desk.decide(request, "approved")
    assert (late.status, late.json["code"]) == (409, "approval_withdrawn")


async def test_a_rule_lets_a_run_start_only_once_a_person_has_approved(desk: Desk) -> None:
    body = {"name": "four eyes", "policy_type": "abac", "rules_yaml": GATE}
    policy = await desk.town.traffic.send("POST", "/v1/policies", desk.owner, body)
    try:

        async def gated() -> Any:
            run = await desk.start(agent="worker")
            return run if run["status"] == "waiting" else None

        run = await until(gated, "the rule holds in execution")
        request = await desk.asked(run)
        assert (request["rule_name"], request["step_id"]) == ("four-eyes", None)
        assert (await desk.decide(request, "approved")).status == 200
        assert (await desk.ended(run))["status"] == "completed"
    finally:
        await desk.town.ask("DELETE", f"/v1/policies/{policy['id']}", desk.owner)

        async def open_again() -> bool:
            return bool((await desk.start(agent="worker"))["status"] == "queued")

        await until(open_again, "the rule is gone")


async def test_a_promotion_is_done_once_a_person_has_approved(desk: Desk) -> None:
    town, send = desk.town, desk.town.traffic.send
    admin = (await send("POST", "/v1/api-keys", desk.owner, {"name": "an admin's", "role": "org_admin"}))["api_key"]
    worker = (await town.ask("GET", "/v1/agents?name=worker", desk.owner)).json["items"][0]
    body = {"name": "promoted", "config_yaml": ASKS_NOBODY, "workspace": worker["workspace_id"]}
    agent = await send("POST", "/v1/agents", desk.owner, body)
    given = {
        "environment_type": "staging",
        "promotion_from": worker["workspace_id"],
        "required_approvers": ["org_owner"],
    }
    place = await send("POST", "/v1/workspaces", desk.owner, {"name": "staging", **given})
    path, wanted = f"/v1/agents/{agent['id']}/promote", {"to_workspace": place["id"]}
    try:

        async def requested() -> Any:
            reply = await town.ask("POST", path, admin, wanted)
            return reply.json if reply.status == 202 else None

        promotion = await until(requested, "a promotion is asked for")

        async def pending() -> Any:
            found = await town.ask("GET", f"/v1/approvals?promotion_id={promotion['id']}", desk.owner)
            return found.json["items"]

        (request,) = await until(pending, "a request for an approval")
        assert (request["approvers"], request["context"]["to"]) == (["role:org_owner"], "staging")
        assert (await desk.decide(request, "approved", admin)).status == 403
        assert (await desk.decide(request, "approved")).status == 200

        async def done() -> Any:
            found = (await town.ask("GET", f"/v1/agents/{agent['id']}/promotions/{promotion['id']}", admin)).json
            return found if found["status"] != "pending" else None

        told = await until(done, "the promotion's end")
        assert (told["status"], told["reason"]) == ("promoted", "because")
        copy = (await town.ask("GET", f"/v1/agents/{told['promoted_agent_id']}", desk.owner)).json
        assert (copy["workspace_id"], copy["name"], copy["current_version"]) == (place["id"], "promoted", "1.0.0")
    finally:
        # The town is everybody's: an agent in a workspace that is gone, or a second workspace, is in others' way.
        await town.ask("DELETE", f"/v1/workspaces/{place['id']}", desk.owner)

        async def gone() -> bool:
            return bool((await town.ask("POST", path, desk.owner, wanted)).status == 404)

        await until(gone, "the workspace is gone")
        for left in (await town.ask("GET", "/v1/agents?name=promoted", desk.owner)).json["items"]:
            await town.ask("DELETE", f"/v1/agents/{left['id']}", desk.owner)
