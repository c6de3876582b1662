"""How each route is used."""

from __future__ import annotations

from services.policy.tests.stage import DENY, Stage, decided

import spine.testing.stage
from chassis.caller import Caller
from chassis.ids import new_id
from policy.usecases import policies
from spine.testing.examples import Call, Examples

EXAMPLES = Examples(changes_nothing={"simulate_decision": "it asks what would be decided; nothing is done"})
AnyStage = spine.testing.stage.Stage


@EXAMPLES.of("create_policy")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"name": f"p {new_id().hex[-6:]}", "policy_type": "abac", "rules_yaml": DENY})


@EXAMPLES.of("get_policy", "update_policy", "delete_policy", "list_policy_assignments")
async def _(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    policy = await stage.policy(caller, f"p {new_id().hex[-6:]}")
    return Call({"policy_id": policy.id}, {"priority": 5}, headers={"If-Match": '"1"'})


@EXAMPLES.of("assign_policy")
async def _(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    policy = await stage.policy(caller, f"p {new_id().hex[-6:]}")
    return Call({"policy_id": policy.id}, {"assignee_type": "user", "assignee_id": str(new_id())})


@EXAMPLES.of("unassign_policy")
async def _(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    policy = await stage.policy(caller, f"p {new_id().hex[-6:]}")
    async with stage.begin(caller) as uow:
        bound = await policies.assign_policy(uow, policy.id, assignee_type="user", assignee_id=new_id())
    return Call({"policy_id": policy.id, "assignment_id": bound.id})


@EXAMPLES.of("get_decision")
async def _(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    fact = decided()
    await stage.record(caller.organization_id, [fact])
    return Call({"decision_id": fact.decision_id})


@EXAMPLES.of("get_approval")
async def _an_approval(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    return Call({"approval_id": await stage.ask(caller.organization_id)})


@EXAMPLES.of("decide_approval")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call((await _an_approval(stage, caller)).path, {"outcome": "approved", "reason": "fine"})


@EXAMPLES.of("simulate_decision")
async def _(stage: AnyStage, caller: Caller) -> Call:
    principal = {"id": caller.id, "roles": ["developer"]}
    return Call(body={"principal": principal, "action": "agent:execute", "resource": {"kind": "agent"}})
