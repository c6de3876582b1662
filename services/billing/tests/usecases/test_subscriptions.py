from __future__ import annotations

import pytest
from services.billing.tests.factories import organization, subscribed

from billing.domain.plans import PLANS
from billing.jobs.periods import renew_subscriptions
from billing.usecases import subscriptions
from billing.usecases.across import restate_subscriptions
from chassis.caller import NOBODY, Caller
from chassis.errors import NotFoundError
from contracts.billing import SubscriptionCreated, SubscriptionRestated, SubscriptionUpdated
from contracts.identity import OrganizationDeleted, OrganizationRestated
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("tier", "plan"), [("free", "free"), ("pro", "pro"), ("unheard of", "free")])
async def test_an_organization_gets_the_subscription_of_its_plan(stage: Stage, tier: str, plan: str) -> None:
    organization_id = await subscribed(stage, plan_tier=tier)
    (fact,) = await stage.facts(SubscriptionCreated, organization_id=organization_id)
    assert (fact.data["plan_id"], fact.data["max_agents"]) == (plan, PLANS[plan].max_agents)
    assert fact.causation_id


async def test_it_gets_one_however_often_it_is_told_of(stage: Stage) -> None:
    organization_id = await subscribed(stage)
    await stage.receive(
        organization_id, organization(organization_id), organization(organization_id, OrganizationRestated)
    )
    assert len(await stage.facts(organization_id=organization_id)) == 1


async def test_an_organization_that_is_gone_ends_its_subscription_once(stage: Stage) -> None:
    organization_id = await subscribed(stage)
    gone = organization(organization_id, OrganizationDeleted, version=2, status="deleted")
    await stage.receive(organization_id, gone, gone)
    (fact,) = await stage.facts(SubscriptionUpdated, organization_id=organization_id)
    assert (fact.data["status"], fact.data["version"]) == ("cancelled", 2)


async def test_a_subscription_is_not_there_before_the_organization_is_known(stage: Stage) -> None:
    with pytest.raises(NotFoundError):
        async with stage.begin(Caller.system(await stage.organization(), "test")) as uow:
            await subscriptions.get_subscription(uow)


async def test_periods_that_are_over_begin_anew_and_others_stay(stage: Stage) -> None:
    over, gone, running = await subscribed(stage), await subscribed(stage), await subscribed(stage)
    await stage.database.sql(
        "update subscription set current_period_end = '2026-02-01', current_period_start = '2026-01-01' "
        "where organization_id = any ($1)", [over, gone],
    )  # fmt: skip
    await stage.database.sql("update subscription set status = 'cancelled' where organization_id = $1", gone)
    for _ in range(2):
        await renew_subscriptions(stage.running)
    (fact,) = await stage.facts(SubscriptionUpdated, organization_id=over)
    assert fact.data["version"] == 2
    row = (await stage.database.sql("select * from subscription where organization_id = $1", over))[0]
    assert row["current_period_start"] <= row["updated_at"] < row["current_period_end"]
    for other in (gone, running):
        assert await stage.facts(SubscriptionUpdated, organization_id=other) == []


async def test_restating_publishes_every_organizations_subscription(stage: Stage) -> None:
    several = {await subscribed(stage) for _ in range(3)}
    async with stage.begin(Caller.system(NOBODY, "test")) as uow:
        assert await restate_subscriptions(uow, next(iter(several))) == 1
    async with stage.begin(Caller.system(NOBODY, "test")) as uow:
        count = await restate_subscriptions(uow, None)
    assert count == await stage.database.value("select count(*) from subscription")
    facts = await stage.facts(SubscriptionRestated)
    assert several <= {fact.organization_id for fact in facts}
    assert len(facts) == count + 1
