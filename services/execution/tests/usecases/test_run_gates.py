"""Runs that a rule lets start only once somebody has approved."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.factories import PAIR, ids, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import rules, start

from chassis.caller import Caller
from chassis.clock import utc_now
from contracts.identity import UserSuspended, UserUpdated
from contracts.policy import ApprovalDecided, ApprovalExpired
from execution.tables.runs import Run
from execution.usecases import agents, approvals, orchestrations, runs

pytestmark = pytest.mark.anyio
GATE = """
apiVersion: policy/v1
type: abac
rules:
  - rule_name: four-eyes
    effect: require_approval
    actions: ["agent:execute"]
    approval: {approvers: {any_of: ["role:operator"]}, expires_in: 2h}
    obligations: [{set: {run.max_tokens: 500}}]
    reason: dear
"""
GATE_RULE = '{rule_name: four-eyes, effect: require_approval, actions: ["agent:execute"]}'
DENY = """  - {rule_name: never, effect: deny, actions: ["agent:execute"], reason: frozen}
"""


async def in_force(stage: Stage, place: Place, text: str) -> None:
    """What the organization's rules are when policy's answer arrives."""
    bundle = rules(place, text).bundle
    assert bundle is not None
    await stage.sql(
        """insert into organization_rules (organization_id, status, bundle_version, bundle_source)
        values ($1, 'active', 7, $2) on conflict (organization_id) do update set bundle_source = $2""",
        place.organization_id, bundle.source(),
    )  # fmt: skip


async def gated(stage: Stage, place: Place) -> tuple[Run, dict[str, Any]]:
    """A run that waits, and what it asks."""
    await make_agent(stage, place)
    run = await start(stage, place.caller("developer"), rules=rules(place, GATE))
    waits, _ = (await stage.bodies(place.organization_id))[-2:]
    assert waits["type"] == "execution.run.wait_started.v1"
    (wanted,) = waits["data"]["approvals"]
    return run, wanted


async def answer(stage: Stage, place: Place, run: Run, wanted: dict[str, Any], outcome: str, **changes: Any) -> Any:
    known = {name: wanted[name] for name in ("approval_id", "action", "resource_type", "resource_id", "requester_id")}
    known |= {"digest": wanted["digest"], "expires_at": wanted["expires_at"], "run_id": run.id, **changes}
    said = {"outcome": outcome, "approver_id": "u-2", "decided_at": utc_now(), "reason": "too dear"}
    fact = ApprovalExpired(**known) if outcome == "expired" else ApprovalDecided(**known | said)
    async with stage.units.begin(Caller.system(place.organization_id, "execution.facts")) as uow:
        await approvals.answer_approval(uow, fact)
    return (await stage.sql("select * from run where id = $1", run.id))[0]


async def test_a_gated_run_waits_and_says_who_may_let_it_start(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    row = (await stage.sql("select * from run where id = $1", run.id))[0]
    assert (row["status"], row["waiting_for"], row["wake_at"], row["dispatched_at"]) == (
        "waiting",
        "approval",
        None,
        None,
    )
    assert wanted["approval_id"] == str(row["decision_id"])
    assert (wanted["approvers"], wanted["rule_name"], wanted["reason"]) == (["role:operator"], "four-eyes", "dear")
    assert wanted["expires_in_seconds"] == 2 * 3600
    assert set(wanted["shown"]) == {"semver", "trigger", "limits"}  # no input in a fact
    assert wanted["shown"]["limits"]["max_tokens"] == 500
    decided = (await stage.bodies(place.organization_id))[-1]["data"]
    assert (decided["effect"], decided["rule_name"]) == ("require_approval", "four-eyes")
    assert "run.queued.v1" not in await stage.types(place.organization_id)


async def test_approved_it_is_decided_again_and_queued_once(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["waiting_for"], row["waiting_since"]) == ("queued", None, None)
    assert row["decision_id"] != UUID(wanted["approval_id"])
    assert json.loads(row["decision"])["obligations"] == [{"set": {"run.max_tokens": 500}}]  # approved, not lifted
    assert json.loads(row["limits"])["max_tokens"] == 500
    assert await answer(stage, place, run, wanted, "approved") == row
    told = await stage.types(place.organization_id)
    assert told.count("run.queued.v1") == 1
    queued = next(body for body in await stage.bodies(place.organization_id) if body["type"].endswith("run.queued.v1"))
    assert queued["actor"]["id"] == run.created_by  # it runs as whoever asked, not as whoever approved


@pytest.mark.parametrize(
    ("outcome", "changes", "expected"),
    [
        ("rejected", {}, ("approval_rejected", "too dear")),
        ("expired", {}, ("approval_expired", "Nobody approved it.")),
        ("approved", {"digest": "0" * 64}, ("approval_digest_mismatch", "What was approved is not what was asked.")),
    ],
)
async def test_without_approval_it_never_starts(
    stage: Stage, place: Place, outcome: str, changes: Any, expected: Any
) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE)
    row = await answer(stage, place, run, wanted, outcome, **changes)
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", *expected)
    assert (await stage.types(place.organization_id))[-1] == "run.failed.v1"
    assert "run.queued.v1" not in await stage.types(place.organization_id)


async def test_a_denial_that_appeared_meanwhile_wins(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE + DENY)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["error_code"]) == ("failed", "denied_by_policy")
    decided = [body["data"] for body in await stage.bodies(place.organization_id) if "decision" in body["type"]]
    assert [(one["effect"], one["rule_name"]) for one in decided] == [
        ("require_approval", "four-eyes"), ("deny", "never"),
    ]  # fmt: skip


SEEN = [
    "principal.kind == 'user' && 'developer' in principal.roles && size(principal.scopes) == 0",
    "resource.kind == 'agent' && resource.attr.risk_level == 'critical' && resource.attr.agent_type == 'llm'",
    "resource.attr.workspace == 'main' && resource.attr.environment_type == 'development'",
    "resource.attr.pii_allowed && !resource.attr.encryption_required && !resource.attr.requires_approval",
    "resource.attr.name == 'writer' && resource.attr.version == '1.0.0' && resource.attr.created_by != principal.id",
    "run.estimated_cost_usd == 0.05 && run.depth == 0 && run.trigger == 'mcp' && run.model == 'smollm2-135m-instruct'",
]


def only_when(condition: str, text: str) -> str:
    return text.replace('actions: ["agent:execute"]', f'actions: ["agent:execute"], when: "{condition}"')


@pytest.mark.parametrize("condition", SEEN)
async def test_rules_see_what_is_asked_before_and_after_an_approval(stage: Stage, place: Place, condition: str) -> None:
    await make_agent(stage, place, risk_level="critical")
    gate = f"apiVersion: policy/v1\ntype: abac\nrules:\n  - {only_when(condition, GATE_RULE)}\n"
    bound = rules(place, gate)
    run = await start(stage, place.caller("developer"), rules=bound, trigger_type="mcp")
    assert run.status == "waiting"
    ((wanted,),) = [
        body["data"]["approvals"] for body in await stage.bodies(place.organization_id) if "wait" in body["type"]
    ]
    await in_force(stage, place, gate + only_when(condition, DENY))
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["error_code"]) == ("failed", "denied_by_policy")


async def test_rules_see_what_has_changed_since_it_was_asked(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE + only_when("resource.attr.risk_level == 'high'", DENY))
    async with stage.units.begin(place.caller()) as uow:
        await agents.update_agent(uow, run.agent_id, {"risk_level": "high"}, expected_version=1)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["error_code"]) == ("failed", "denied_by_policy")


async def test_whoever_asked_is_decided_on_by_the_role_they_have_now(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE)
    viewer = UserUpdated(user_id=UUID(run.created_by), version=2, role="viewer", status="active")
    await stage.receive(place.organization_id, viewer)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["error_code"]) == ("failed", "denied_by_policy")


async def test_whoever_may_not_act_any_more_starts_nothing_and_asks_nobody(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    other = await start(stage, place.caller("developer"), rules=rules(place, GATE))
    gone = UserSuspended(user_id=UUID(run.created_by), version=2, role="developer", status="suspended")
    for _ in range(2):
        await stage.receive(place.organization_id, gone)
    await in_force(stage, place, GATE)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["error_code"]) == ("failed", "caller_gone")
    assert (await stage.types(place.organization_id)).count("run.failed.v1") == 1  # policy withdraws the question by it
    assert (await stage.sql("select status from run where id = $1", other.id))[0]["status"] == "waiting"


async def test_an_orchestration_is_as_risky_as_the_riskiest_of_its_agents(stage: Stage, place: Place) -> None:
    writer, editor = await make_agent(stage, place), await make_agent(stage, place, "editor", risk_level="high")
    async with stage.units.begin(place.caller()) as uow:
        await orchestrations.create_orchestration(
            uow, config_yaml=PAIR, agent_ids=ids(writer=writer, editor=editor), workspace=place.workspace_id,
            name="pair", fields={},
        )  # fmt: skip
    risky = only_when("resource.attr.risk_level == 'high'", GATE_RULE).replace("agent:execute", "orchestration:execute")
    bound = rules(place, f"apiVersion: policy/v1\ntype: abac\nrules:\n  - {risky}\n")
    run = await start(stage, place.caller("developer"), "pair", kind="orchestration", rules=bound)
    assert run.status == "waiting"


async def test_another_gate_that_appeared_meanwhile_asks_anew(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    second = '  - {rule_name: six-eyes, effect: require_approval, actions: ["agent:execute"]}\n'
    await in_force(stage, place, GATE + second)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["waiting_for"]) == ("waiting", "approval")
    asked = [body["data"]["approvals"] for body in await stage.bodies(place.organization_id) if "wait" in body["type"]]
    assert [each[0]["rule_name"] for each in asked] == ["four-eyes", "six-eyes"]
    assert asked[1][0]["approval_id"] == str(row["decision_id"]) != wanted["approval_id"]
    row = await answer(stage, place, run, asked[1][0], "approved")
    assert row["status"] == "queued"  # the first gate does not ask again
    assert (
        json.loads(row["limits"])["max_tokens"]
        == json.loads(row["decision"])["obligations"][0]["set"]["run.max_tokens"]
    )


async def test_what_is_gone_meanwhile_does_not_start(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE)
    async with stage.units.begin(place.caller()) as uow:
        await agents.delete_agent(uow, run.agent_id)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["error_code"]) == ("failed", "not_found")


async def test_a_gated_run_can_be_cancelled(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        await runs.cancel_run(uow, run.id, reason="never mind")
    await in_force(stage, place, GATE)
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["waiting_for"]) == ("cancelled", None)
