from __future__ import annotations

from datetime import datetime

import pytest
from services.identity.tests.factories import gateway, subscription
from services.identity.tests.stage import Home, Stage

from chassis.ids import new_id
from contracts.billing import SubscriptionCreated, SubscriptionRestated, SubscriptionUpdated
from contracts.gateway import GatewayCreated, GatewayRestated
from contracts.identity import OrganizationProvisioned, OrganizationUpdated

pytestmark = pytest.mark.anyio


async def provisioned_at(stage: Stage, home: Home) -> datetime | None:
    found: datetime | None = await stage.database.value(
        "select provisioned_at from organization where id = $1", home.id
    )
    return found


@pytest.mark.parametrize("is_gateway_first", [True, False])
async def test_an_organization_is_provisioned_when_all_is_there(
    stage: Stage, home: Home, *, is_gateway_first: bool
) -> None:
    facts = [subscription(SubscriptionCreated), gateway(GatewayCreated)]
    if is_gateway_first:
        facts.reverse()
    await stage.receive(home.id, facts[0])
    assert await provisioned_at(stage, home) is None
    await stage.receive(home.id, facts[1])
    at = await provisioned_at(stage, home)
    assert at is not None
    (fact,) = await stage.facts(OrganizationProvisioned, organization_id=home.id)
    assert fact.causation_id
    await stage.receive(home.id, *facts, subscription(SubscriptionRestated), gateway(GatewayRestated))
    assert await provisioned_at(stage, home) == at
    assert len(await stage.facts(OrganizationProvisioned, organization_id=home.id)) == 1


async def test_restated_parts_count_too(stage: Stage, home: Home) -> None:
    """Identity that starts from a backup older than the parts hears of them by restatement alone."""
    await stage.receive(home.id, gateway(GatewayRestated), subscription(SubscriptionRestated, version=4))
    assert await provisioned_at(stage, home) is not None


async def test_limits_and_plan_follow_and_are_never_set_back(stage: Stage, home: Home) -> None:
    newer = subscription(SubscriptionUpdated, version=3, plan_id="pro", max_users=200)
    older = subscription(SubscriptionUpdated, version=2, plan_id="enterprise", max_users=9999)
    await stage.receive(home.id, subscription(SubscriptionCreated), newer, older, newer)
    row = (await stage.database.sql("select * from subscription_limit where organization_id = $1", home.id))[0]
    assert (row["max_users"], row["version"]) == (200, 3)
    assert await stage.database.value("select plan_tier from organization where id = $1", home.id) == "pro"
    (fact,) = await stage.facts(OrganizationUpdated, organization_id=home.id)
    assert (fact.data["plan_tier"], fact.data["version"]) == ("pro", 2)


async def test_a_plan_nobody_knows_leaves_the_tier(stage: Stage, home: Home) -> None:
    await stage.receive(home.id, subscription(SubscriptionUpdated, version=2, plan_id="barter"))
    assert await stage.database.value("select plan_tier from organization where id = $1", home.id) == "free"


async def test_parts_of_an_unknown_organization_change_nothing(stage: Stage) -> None:
    stranger = new_id()
    await stage.receive(stranger, gateway(GatewayCreated), subscription(SubscriptionCreated))
    assert await stage.facts(organization_id=stranger) == []
