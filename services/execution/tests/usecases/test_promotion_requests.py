"""Promotions into a workspace that wants to be asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.factories import HTTP, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_allowed_hosts import allow
from services.execution.tests.usecases.test_promotions import staging
from services.execution.tests.usecases.test_run_gates import in_force

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.errors import ConflictError, LimitExceededError
from contracts.identity import UserSuspended, UserUpdated
from contracts.policy import ApprovalDecided, ApprovalExpired
from execution.tables.agents import Agent
from execution.tables.promotions import PromotionRequest
from execution.usecases import agents, promotion_requests, promotions

pytestmark = pytest.mark.anyio
OPERATORS = '["operator"]'
RULES = "apiVersion: policy/v1\ntype: abac\napprovals: {expires_in: 3h}\n"
FROZEN = 'rules:\n  - {rule_name: frozen, effect: deny, actions: ["agent:promote"], reason: freeze}\n'


async def ask(
    stage: Stage, place: Place, agent: Agent, caller: Caller | None = None, to: str = "staging"
) -> PromotionRequest:
    async with stage.units.begin(caller or place.caller()) as uow:
        asked = await promotions.promote_agent(uow, agent.id, to_workspace=to, semver="current")
        assert isinstance(asked, PromotionRequest)
        return asked


async def asked_for(stage: Stage, place: Place, **workspace: Any) -> tuple[Agent, Place, PromotionRequest]:
    """A promotion that waits."""
    given = {"required_approvers": OPERATORS} | workspace
    after, agent = await staging(stage, place, **given), await make_agent(stage, place)
    return agent, after, await ask(stage, place, agent)


async def answer(stage: Stage, row: PromotionRequest, outcome: str = "approved", **changes: Any) -> Any:
    """Let policy say what became of it; returns the row as it is then."""
    known: dict[str, Any] = {
        "approval_id": row.id, "run_id": row.id, "promotion_id": row.id, "action": "agent:promote",
        "resource_type": "agent", "resource_id": str(row.agent_id), "requester_id": row.created_by,
        "digest": row.approval_digest, "expires_at": utc_now(), **changes,
    }  # fmt: skip
    said = {"outcome": outcome, "approver_id": "u-2", "decided_at": utc_now(), "reason": "well"}
    fact = ApprovalExpired(**known) if outcome == "expired" else ApprovalDecided(**known | said)
    await stage.receive(row.organization_id, fact)
    return (await stage.sql("select * from promotion_request where id = $1", row.id))[0]


async def copies(stage: Stage, place: Place) -> int:
    """How many agents are in the workspace."""
    return int((await stage.sql("select count(*) from agent where workspace_id = $1", place.workspace_id))[0][0])


async def test_a_promotion_is_asked_for_once_and_nothing_is_done(stage: Stage, place: Place) -> None:
    await in_force(stage, place, RULES)
    agent, after, row = await asked_for(stage, place)
    again = await ask(stage, place, agent)
    assert (again.id, again.version, row.status, row.approvers) == (row.id, 1, "pending", ["role:operator"])
    assert await copies(stage, after) == 0
    (fact,) = [body["data"] for body in await stage.bodies(place.organization_id) if "promotion" in body["type"]]
    wanted = fact["approval"]
    assert (wanted["approval_id"], wanted["action"], wanted["resource_id"]) == (
        str(row.id), "agent:promote", str(agent.id),
    )  # fmt: skip
    assert (wanted["approvers"], wanted["owner_id"], wanted["digest"]) == (
        ["role:operator"], row.created_by, row.approval_digest,
    )  # fmt: skip
    assert wanted["shown"] == {"agent": "writer", "semver": "1.0.0", "digest": row.digest, "to": "staging"}
    assert wanted["expires_in_seconds"] == 3 * 3600


async def test_of_two_that_arrive_together_one_asks(stage: Stage, place: Place) -> None:
    await staging(stage, place, requires_approval=True)
    agent = await make_agent(stage, place)
    rows = await asyncio.gather(*(ask(stage, place, agent) for _ in range(4)))
    assert len({row.id for row in rows}) == 1
    assert (await stage.types(place.organization_id)).count("promotion.requested.v1") == 1


async def test_approved_it_is_done_once_as_whoever_asked(stage: Stage, place: Place) -> None:
    _, after, row = await asked_for(stage, place)
    done = await answer(stage, row)
    assert (done["status"], done["approver_id"], done["reason"], done["error_code"]) == (
        "promoted",
        "u-2",
        "well",
        None,
    )
    assert await answer(stage, row) == done
    assert await answer(stage, row, "rejected") == done
    (copy,) = await stage.sql("select * from agent where workspace_id = $1", after.workspace_id)
    assert (copy["id"], copy["current_version"], copy["created_by"]) == (
        done["promoted_agent_id"], "1.0.0", row.created_by,
    )  # fmt: skip
    last = (await stage.bodies(place.organization_id))[-2:]
    assert [body["type"].removeprefix("execution.") for body in last] == [
        "agent.promoted.v1", "promotion.completed.v1",
    ]  # fmt: skip
    assert {body["actor"]["id"] for body in last} == {row.created_by}


@pytest.mark.parametrize(
    ("outcome", "changes", "expected"),
    [
        ("rejected", {}, ("rejected", "approval_rejected", "well")),
        ("expired", {}, ("expired", "approval_expired", "Nobody approved it.")),
        (
            "approved",
            {"digest": "0" * 64},
            ("failed", "approval_digest_mismatch", "What was approved is not what was asked."),
        ),
    ],
)
async def test_without_approval_it_is_refused(
    stage: Stage, place: Place, outcome: str, changes: Any, expected: tuple[str, str, str]
) -> None:
    agent, after, row = await asked_for(stage, place)
    done = await answer(stage, row, outcome, **changes)
    assert (done["status"], done["error_code"], done["error_message"]) == expected
    assert await answer(stage, row) == done
    assert await copies(stage, after) == 0
    assert (await stage.types(place.organization_id))[-1] == "promotion.refused.v1"
    assert (await ask(stage, place, agent)).id != row.id  # whoever wants it still asks anew


async def refusal(stage: Stage, place: Place, after: Place, row: PromotionRequest) -> str:
    """Why an approved promotion was not done; nothing of it is there."""
    done = await answer(stage, row)
    assert (done["status"], done["approver_id"]) == ("failed", "u-2")
    assert await copies(stage, after) == 0
    types = await stage.types(place.organization_id)
    assert types.count("promotion.refused.v1") == 1
    assert "agent.promoted.v1" not in types
    return str(done["error_code"])


async def test_a_denial_that_appeared_meanwhile_wins(stage: Stage, place: Place) -> None:
    _, after, row = await asked_for(stage, place)
    await in_force(stage, place, RULES + FROZEN)
    assert await refusal(stage, place, after, row) == "denied_by_policy"
    (decided,) = [body["data"] for body in await stage.bodies(place.organization_id) if "decision" in body["type"]]
    assert (decided["effect"], decided["rule_name"]) == ("deny", "frozen")


async def test_whoever_may_not_promote_any_more_does_not(stage: Stage, place: Place) -> None:
    _, after, row = await asked_for(stage, place)
    developer = UserUpdated(user_id=UUID(row.created_by), version=2, role="developer", status="active")
    await stage.receive(place.organization_id, developer)
    assert await refusal(stage, place, after, row) == "missing_permission"


async def test_whoever_was_suspended_asks_nobody_any_more(stage: Stage, place: Place) -> None:
    _, after, row = await asked_for(stage, place)
    gone = UserSuspended(user_id=UUID(row.created_by), version=2, role="org_admin", status="suspended")
    for _ in range(2):
        await stage.receive(place.organization_id, gone)
    assert (await stage.types(place.organization_id)).count("promotion.refused.v1") == 1
    assert (await answer(stage, row))["error_code"] == "caller_gone"
    assert await copies(stage, after) == 0


async def test_what_changed_meanwhile_is_seen_when_it_is_done(stage: Stage, place: Place) -> None:
    agent, after, row = await asked_for(stage, place)
    await stage.sql("update workspace set required_approvers = '[\"org_owner\"]' where id = $1", after.workspace_id)
    assert await refusal(stage, place, after, row) == "approval_digest_mismatch"
    row = await ask(stage, place, agent)
    await stage.sql("update workspace set promotion_from = null where id = $1", after.workspace_id)
    assert (await answer(stage, row))["error_code"] == "no_promotion_path"


async def test_an_agent_that_is_gone_is_not_promoted(stage: Stage, place: Place) -> None:
    agent, after, row = await asked_for(stage, place)
    async with stage.units.begin(place.caller()) as uow:
        await agents.delete_agent(uow, agent.id)
    assert await refusal(stage, place, after, row) == "not_found"


async def test_a_copy_that_would_not_pass_todays_scan_leaves_nothing(stage: Stage, place: Place) -> None:
    after = await staging(stage, place, requires_approval=True)
    row = await ask(stage, place, await make_agent(stage, place, "caller", HTTP))
    await allow(stage, place, "other.example.com")
    assert await refusal(stage, place, after, row) == "security_scan_failed"


async def test_other_approvers_are_asked_anew(stage: Stage, place: Place) -> None:
    agent, after, row = await asked_for(stage, place)
    await stage.sql("update workspace set required_approvers = '[\"org_owner\"]' where id = $1", after.workspace_id)
    other = await ask(stage, place, agent)
    assert (other.id != row.id, other.approvers) == (True, ["role:org_owner"])
    assert (await answer(stage, row))["error_code"] == "superseded"
    assert (await answer(stage, other))["status"] == "promoted"


async def test_a_workspace_that_names_nobody_who_decides_is_told_so(stage: Stage, place: Place) -> None:
    await staging(stage, place, required_approvers=json.dumps(["tech_lead", "viewer"]))
    with pytest.raises(ConflictError) as refused:
        await ask(stage, place, await make_agent(stage, place))
    assert refused.value.code == "nobody_may_approve"


async def test_so_many_promotions_wait_at_once(stage: Stage, place: Place) -> None:
    _, _, row = await asked_for(stage, place)
    columns = "organization_id, agent_id, agent_version_id, semver, digest, from_workspace_id, approvers"
    more = "approval_digest, caller, created_by, traceparent, correlation_id, status, created_at, updated_at, version"
    await stage.sql(
        f"""insert into promotion_request (id, to_workspace_id, {columns}, {more})
        select gen_random_uuid(), gen_random_uuid(), {columns}, {more} from promotion_request, generate_series(2, $2)
        where id = $1""",
        row.id, promotion_requests.MAX_PENDING,
    )  # fmt: skip
    with pytest.raises(LimitExceededError) as refused:
        await ask(stage, place, await make_agent(stage, place, "other"))
    assert refused.value.code == "too_many_promotions"


async def test_promotions_at_the_door(stage: Stage, place: Place) -> None:
    after, agent = await staging(stage, place, requires_approval=True), await make_agent(stage, place)
    admin, path = stage.client(place.caller()), f"/v1/agents/{agent.id}"
    asked = await admin.post(f"{path}/promote", {"to_workspace": str(after.workspace_id)})
    assert (asked.status, asked.json()["status"], asked.json()["approvers"]) == (202, "pending", [])
    location = asked.headers["location"]
    assert location == f"{path}/promotions/{asked.json()['id']}"
    viewer = stage.client(place.caller("viewer"))
    assert (await viewer.get(location)).json() == asked.json()
    listed = (await viewer.get(f"{path}/promotions", query={"status": "pending"})).json()["items"]
    assert [each["id"] for each in listed] == [asked.json()["id"]]
    other = await make_agent(stage, place, "other")
    assert (await viewer.get(location.replace(str(agent.id), str(other.id)))).status == 404
    assert (await viewer.get(f"/v1/agents/{other.id}/promotions")).json()["items"] == []
    async with stage.units.begin(place.caller()) as uow:
        row = await promotion_requests.get_promotion(uow, agent.id, UUID(asked.json()["id"]))
    await answer(stage, row)
    assert (await viewer.get(location)).json()["status"] == "promoted"
    again = await admin.post(f"{path}/promote", {"to_workspace": "staging"})
    assert (again.status, again.json()["changed"]) == (200, [])


async def test_asking_again_while_it_is_done_does_neither_twice(stage: Stage, place: Place) -> None:
    agent, after, row = await asked_for(stage, place)

    async def again() -> None:
        async with stage.units.begin(place.caller()) as uow:
            await promotions.promote_agent(uow, agent.id, to_workspace="staging", semver="current")

    done, *_ = await asyncio.gather(answer(stage, row), *(again() for _ in range(4)), answer(stage, row))
    assert done["status"] == "promoted"
    assert await copies(stage, after) == 1
    types = await stage.types(place.organization_id)
    counts = [types.count(name) for name in ("promotion.completed.v1", "agent.promoted.v1", "promotion.requested.v1")]
    assert counts == [1, 1, 1]
