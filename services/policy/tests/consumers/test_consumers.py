from __future__ import annotations

from typing import Any

import pytest
from services.policy.tests.stage import Stage, decided

from chassis.caller import Caller
from chassis.ids import new_id
from contracts.identity import OrganizationDeleted
from contracts.policy import DECIDED
from policy.usecases import policies

pytestmark = pytest.mark.anyio


async def test_every_services_decisions_are_kept_once(stage: Stage, owner: Caller) -> None:
    facts = [decided(service, reason=service) for service in DECIDED]
    for _ in range(2):
        await stage.record(owner.organization_id, facts)
    rows = await stage.database.sql("select * from decision where organization_id = $1", owner.organization_id)
    assert {row["id"]: (row["service"], row["reason"]) for row in rows} == {
        fact.decision_id: (service, service) for service, fact in zip(DECIDED, facts, strict=True)
    }


async def test_a_batch_of_any_size_is_kept(stage: Stage, owner: Caller) -> None:
    await stage.record(owner.organization_id, [decided() for _ in range(2_500)])
    count = await stage.database.value(
        "select count(*) from decision where organization_id = $1", owner.organization_id
    )
    assert count == 2_500


async def test_a_decision_is_kept_with_all_it_said(stage: Stage, owner: Caller) -> None:
    said: dict[str, Any] = {
        "effect": "allow", "policy_id": new_id(), "bundle_revision": 7, "reason": "because", "error": True,
        "obligations": [{"set": {"run.max_cost_usd": 1.0}}], "run_id": new_id(), "owner_id": owner.owner_id,
        "principal_type": "api_key",
    }  # fmt: skip
    fact = decided(**said)
    await stage.record(owner.organization_id, [fact])
    shown = (await stage.client(owner).get(f"/v1/decisions/{fact.decision_id}")).json()
    kept = fact.model_dump(mode="json", exclude={"decision_id", "owner_id"})
    assert {name: shown[name] for name in kept} == kept
    assert (shown["id"], shown["service"]) == (str(fact.decision_id), "execution")


async def test_an_organization_that_is_gone_has_no_policies(stage: Stage, owner: Caller) -> None:
    policy, other = await stage.policy(owner), await stage.caller()
    await stage.policy(other)
    async with stage.begin(owner) as uow:
        await policies.assign_policy(uow, policy.id, assignee_type="user", assignee_id=new_id())
    gone = OrganizationDeleted(
        organization_id=owner.organization_id, version=2, name="x", slug="x", status="deleted", plan_tier="free",
        created_by="x",
    )  # fmt: skip
    await stage.receive(owner.organization_id, gone, gone)
    for table, left in (("policy", 0), ("policy_assignment", 0), ("policy_bundle", 1)):
        count = f"select count(*) from {table} where organization_id = $1"
        assert await stage.database.value(count, owner.organization_id) == left
    bundle = await stage.bundle(owner.organization_id)
    assert bundle is not None
    assert (bundle.revision, bundle.documents) == (3, ())
    assert (await stage.types(owner.organization_id))[-2:] == ["policy.deleted.v1", "bundle.published.v1"]
    assert (
        await stage.database.value("select count(*) from policy where organization_id = $1", other.organization_id) == 1
    )
