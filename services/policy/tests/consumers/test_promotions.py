"""Approvals that promotions ask for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from services.policy.tests.stage import Stage, wanted

from chassis.caller import Caller
from chassis.ids import new_id
from contracts.releases import PromotionRefused, PromotionRequested

pytestmark = pytest.mark.anyio


def known(promotion_id: UUID) -> dict[str, Any]:
    return {
        "promotion_id": promotion_id, "version": 1, "agent_id": new_id(), "agent_version_id": new_id(),
        "semver": "1.0.1", "digest": "d", "from_workspace_id": new_id(), "to_workspace_id": new_id(),
    }  # fmt: skip


async def ask(stage: Stage, owner: Caller, promotion_id: UUID) -> None:
    asked = wanted(
        approval_id=promotion_id, step_id=None, action="agent:promote", resource_type="agent",
        approvers=["role:operator"], rule_name="required-approvers", expires_in_seconds=3600.0,
    )  # fmt: skip
    await stage.receive(owner.organization_id, PromotionRequested(**known(promotion_id), approval=asked))


async def test_what_a_promotion_asks_is_asked_once_and_decided_as_any(stage: Stage, owner: Caller) -> None:
    promotion_id = new_id()
    for _ in range(2):
        await ask(stage, owner, promotion_id)
    operator = stage.client(await stage.caller("operator", owner.organization_id))
    (shown,) = (await operator.get("/v1/approvals", query={"promotion_id": str(promotion_id)})).json()["items"]
    assert (shown["id"], shown["promotion_id"], shown["run_id"]) == (str(promotion_id), str(promotion_id), None)
    assert shown["action"] == "agent:promote"
    body = {"outcome": "approved", "digest": shown["digest"], "reason": "fine"}
    assert (await operator.post(f"/v1/approvals/{promotion_id}/decide", body)).status == 200
    facts = await stage.facts(organization_id=owner.organization_id)
    assert [fact.type.removeprefix("policy.approval.") for fact in facts] == ["requested.v1", "decided.v1"]
    assert {(fact.data["promotion_id"], fact.data["run_id"]) for fact in facts} == {(str(promotion_id),) * 2}


async def test_a_promotion_that_will_not_be_done_takes_its_question_back(stage: Stage, owner: Caller) -> None:
    promotion_id, other = new_id(), new_id()
    for each in (promotion_id, other):
        await ask(stage, owner, each)
    run = await stage.ask(owner.organization_id)
    for _ in range(2):
        for each in (promotion_id, run):
            await stage.receive(owner.organization_id, PromotionRefused(**known(each), error_code="caller_gone"))
    rows = await stage.database.sql(
        "select id, status from approval_request where id = any($1)", [promotion_id, other, run]
    )
    assert dict(map(tuple, rows)) == {promotion_id: "withdrawn", other: "pending", run: "pending"}
    client = stage.client(await stage.caller("operator", owner.organization_id))
    late = await client.post(f"/v1/approvals/{promotion_id}/decide", {"outcome": "approved"})
    assert (late.status, late.code) == (409, "approval_withdrawn")
    assert "promotion" in late.json()["detail"]
    withdrawn = [fact for fact in await stage.facts(organization_id=owner.organization_id) if "withdrawn" in fact.type]
    assert [fact.data["reason"] for fact in withdrawn] == ["promotion_refused"]
