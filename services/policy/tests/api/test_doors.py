"""What only the door does, and the questions that are asked through it."""

from __future__ import annotations

import pytest
from services.policy.tests.stage import ALLOW, DENY, Stage, decided

from chassis.caller import Caller
from chassis.ids import new_id
from pdp.matrix import ORGANIZATION_ROLES, PERMISSIONS, allowed
from policy.api.policies import MAX_RULES

pytestmark = pytest.mark.anyio


async def test_a_mistake_is_shown_with_its_place(stage: Stage, owner: Caller) -> None:
    body = {"name": "p", "policy_type": "abac", "rules_yaml": DENY.replace("agent:execute", "agent:fly", 1)}
    answer = await stage.client(owner).post("/v1/policies", body)
    assert (answer.status, answer.code) == (422, "invalid_policy")
    (error, *_) = answer.json()["errors"]
    assert (error["line"], error["code"]) == (7, "unknown_permission")
    assert error["column"] > 1


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"priority": -1}, {"priority": 10_001}, {"rules_yaml": "#" * (MAX_RULES + 1)}, {"is_system": True}],
)
async def test_what_does_not_fit_is_refused_by_name(stage: Stage, owner: Caller, wrong: dict[str, object]) -> None:
    body = {"name": "p", "policy_type": "abac", "rules_yaml": DENY}
    answer = await stage.client(owner).post("/v1/policies", body | wrong)
    assert (answer.status, answer.code) == (422, "invalid")
    assert [error["loc"][-1] for error in answer.json()["errors"]] == list(wrong)


async def test_changes_say_which_version_they_change(stage: Stage, owner: Caller) -> None:
    client = stage.client(owner)
    made = await client.post("/v1/policies", {"name": "p", "policy_type": "abac", "rules_yaml": DENY})
    path = made.headers["location"]
    assert made.headers["etag"] == (await client.get(path)).headers["etag"] == '"1"'
    assert (await client.patch(path, {"priority": 7})).status == 428
    assert (await client.patch(path, {"priority": 7}, headers={"If-Match": '"9"'})).status == 412
    changed = await client.patch(path, {"priority": 7}, headers={"If-Match": '"1"'})
    assert (changed.status, changed.headers["etag"], changed.json()["priority"]) == (200, '"2"', 7)
    assert (await client.patch(path, {"policy_type": "rbac"}, headers={"If-Match": '"2"'})).status == 422


async def test_lists_and_counts(stage: Stage, owner: Caller) -> None:
    await stage.policy(owner, "b")
    await stage.policy(owner, "a", ALLOW, is_enabled=False)
    client = stage.client(owner)
    assert [item["name"] for item in (await client.get("/v1/policies", query={"sort": "name"})).json()["items"]] == [
        "a",
        "b",
    ]
    assert (await client.get("/v1/policies/count", query={"is_enabled": True})).json() == {"count": 1}


async def test_a_simulation_names_each_clause_and_does_nothing(stage: Stage, owner: Caller) -> None:
    policy = await stage.policy(owner)
    question = {
        "principal": {"id": "u", "roles": ["developer"]}, "action": "agent:execute",
        "resource": {"kind": "agent", "id": "a", "attr": {"risk_level": "high"}},
    }  # fmt: skip
    told = len(await stage.facts())
    developer = stage.client(await stage.caller("developer", owner.organization_id))
    answer = (await developer.post("/v1/policies/simulate", question)).json()
    assert (answer["effect"], answer["rule_name"], answer["reason"]) == ("deny", "no-risky-agents", "too-risky")
    assert (answer["policy_id"], answer["bundle_revision"], answer["own_only"]) == (str(policy.id), 1, False)
    clause = answer["clauses"][0]
    assert (clause["text"], clause["truth"]) == ("resource.attr.risk_level == 'high'", True)
    question["resource"] = {"kind": "agent", "id": "a"}
    silent = (await developer.post("/v1/policies/simulate", question)).json()
    assert (silent["effect"], silent["error"]) == ("deny", True)
    assert silent["clauses"][0]["truth"] is None
    assert silent["clauses"][0]["error"]
    assert len(await stage.facts()) == told


GATE = """
apiVersion: policy/v1
type: abac
approvals: {expires_in: 6h}
rules:
  - {rule_name: dear, effect: require_approval, actions: ["agent:execute"], when: run.estimated_cost_usd > 1.0}
  - rule_name: risky
    effect: require_approval
    actions: ["agent:execute"]
    when: resource.attr.risk_level == 'high'
    approval: {approvers: {any_of: ["role:operator"]}, expires_in: 2h}
"""


@pytest.mark.parametrize(
    ("cost", "risk", "expected"),
    [
        (2.0, "low", (["role:org_admin", "role:org_owner"], 21_600, ["dear"])),
        (2.0, "high", (["role:operator"], 7_200, ["dear", "risky"])),
        (0.5, "low", None),
    ],
)
async def test_a_simulation_says_by_whom_it_would_have_to_be_approved(
    stage: Stage, owner: Caller, cost: float, risk: str, expected: tuple[list[str], int, list[str]] | None
) -> None:
    policy = await stage.policy(owner, rules_yaml=GATE)
    question = {
        "principal": {"id": "u", "roles": ["developer"]}, "action": "agent:execute",
        "resource": {"kind": "agent", "id": "a", "attr": {"risk_level": risk}}, "run": {"estimated_cost_usd": cost},
    }  # fmt: skip
    answer = (await stage.client(owner).post("/v1/policies/simulate", question)).json()
    if expected is None:
        assert (answer["effect"], answer["approval"]) == ("allow", None)
        return
    approvers, seconds, names = expected
    gates = [f"{policy.id}/{name}" for name in names]
    assert answer["effect"] == "require_approval"
    assert answer["approval"] == {"approvers": approvers, "expires_in_seconds": seconds, "gates": gates}


async def test_without_policies_the_role_matrix_answers(stage: Stage, owner: Caller) -> None:
    for role, effect in (("developer", "allow"), ("viewer", "deny")):
        question = {"principal": {"id": "u", "roles": [role]}, "action": "agent:execute", "resource": {"kind": "agent"}}
        answer = (await stage.client(owner).post("/v1/policies/simulate", question)).json()
        assert (answer["effect"], answer["bundle_revision"], answer["policy_id"]) == (effect, 0, None)


@pytest.mark.parametrize("odd", [{"x": "a\0b"}, {"x": 2**62}, {"x": [[[[]]]]}, {"": ""}, {"x": None}, {"x": 1e308}])
async def test_no_attribute_breaks_a_simulation(stage: Stage, owner: Caller, odd: dict[str, object]) -> None:
    await stage.policy(owner)
    question = {
        "principal": {"id": "u", "roles": ["developer"]}, "action": "agent:execute",
        "resource": {"kind": "agent", "id": "a", "attr": odd},
    }  # fmt: skip
    answer = await stage.client(owner).post("/v1/policies/simulate", question)
    assert answer.status == 200, answer.body
    assert answer.json()["effect"] == "deny"  # the attribute that the rule looks at is not there


async def test_the_role_matrix_is_shown_as_it_is(stage: Stage) -> None:
    viewer = stage.client(await stage.caller("viewer"))
    roles = {role["name"]: role["grants"] for role in (await viewer.get("/v1/roles")).json()["items"]}
    assert tuple(roles) == ORGANIZATION_ROLES
    for role, grants in roles.items():
        assert {permission for permission in PERMISSIONS if allowed((role,), permission) != "no"} == grants.keys()


async def test_decisions_are_found_by_what_they_are_about(stage: Stage, owner: Caller) -> None:
    run_id = new_id()
    facts = [decided(run_id=run_id), decided("policy", effect="allow"), decided("gateway", rule_name="other")]
    await stage.record(owner.organization_id, facts)
    client = stage.client(owner)
    for query, wanted in (
        ({}, [2, 1, 0]), ({"run_id": str(run_id)}, [0]), ({"effect": "allow"}, [1]), ({"rule_name": "other"}, [2]),
        ({"service[in]": "policy,gateway"}, [2, 1]), ({"principal_id": facts[0].principal_id}, [0]),
    ):  # fmt: skip
        found = (await client.get("/v1/decisions", query=query)).json()["items"]
        assert [item["id"] for item in found] == [str(facts[number].decision_id) for number in wanted]
        assert (await client.get("/v1/decisions/count", query=query)).json() == {"count": len(wanted)}


async def test_a_developer_sees_its_own_decisions_also_those_of_its_keys(stage: Stage, owner: Caller) -> None:
    developer = await stage.caller("developer", owner.organization_id)
    mine = decided(principal_id=developer.id)
    by_key = decided(principal_type="api_key", principal_id=str(new_id()), owner_id=developer.owner_id)
    other = decided()
    await stage.record(owner.organization_id, [mine, by_key, other])
    client = stage.client(developer)
    items = (await client.get("/v1/decisions")).json()["items"]
    assert [item["id"] for item in items] == [str(by_key.decision_id), str(mine.decision_id)]
    for fact, status in ((mine, 200), (by_key, 200), (other, 404)):
        assert (await client.get(f"/v1/decisions/{fact.decision_id}")).status == status
    viewer = stage.client(await stage.caller("viewer", owner.organization_id))
    assert (await viewer.get("/v1/decisions")).code == "missing_permission"
