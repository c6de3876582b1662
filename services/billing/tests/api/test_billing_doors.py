from __future__ import annotations

import pytest
from services.billing.tests.factories import NOON, receive_batch, step, subscribed

from chassis.caller import Caller
from chassis.ids import new_id
from contracts.billing import SubscriptionUpdated
from spine.testing.client import Answer
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio
DAYS = {"from": NOON.date().isoformat(), "to": NOON.date().isoformat()}


async def change(stage: Stage, caller: Caller, organization: object, version: int | None, **body: object) -> Answer:
    headers = {} if version is None else {"if-match": f'"{version}"'}
    return await stage.client(caller).patch(f"/v1/platform/subscriptions/{organization}", body, headers=headers)


async def test_the_platform_moves_an_organization_to_another_plan(stage: Stage) -> None:
    admin, organization_id = await stage.caller("platform_admin"), await subscribed(stage)
    answer = await change(stage, admin, organization_id, 1, plan_id="pro", max_agents=7)
    assert (answer.status, answer.headers["etag"]) == (200, '"2"')
    assert (answer.json()["plan_id"], answer.json()["max_agents"], answer.json()["max_users"]) == ("pro", 7, 200)
    (fact,) = await stage.facts(SubscriptionUpdated, organization_id=organization_id)
    assert (fact.actor.id, fact.data["max_agents"]) == (admin.id, 7)
    seen = await stage.client(await stage.caller("org_owner", organization_id)).get("/v1/subscription")
    assert (seen.json()["plan_id"], seen.headers["etag"]) == ("pro", '"2"')


async def test_the_platform_changes_what_it_has_seen(stage: Stage) -> None:
    admin, organization_id = await stage.caller("platform_admin"), await subscribed(stage)
    assert (await change(stage, admin, organization_id, None, plan_id="pro")).status == 428
    assert (await change(stage, admin, organization_id, 9, plan_id="pro")).status == 412
    assert (await change(stage, admin, organization_id, 1, plan_id="golden")).code == "unknown_plan"
    assert (await change(stage, admin, organization_id, 1, plan_id="pro", max_agents=0)).status == 422
    assert (await change(stage, admin, new_id(), 1, plan_id="pro")).status == 404
    assert await stage.facts(SubscriptionUpdated, organization_id=organization_id) == []


async def test_usage_is_summed_for_who_may_see_it(stage: Stage) -> None:
    owner = await stage.caller("org_owner")
    developer = await stage.caller("developer", owner.organization_id)
    mine = step(owner_id=developer.owner_id, cost_usd_micros=5)
    await receive_batch(stage, owner.organization_id, mine, step(cost_usd_micros=100))

    async def total(caller: Caller) -> int:
        answer = await stage.client(caller).get("/v1/usage", query=DAYS)
        assert answer.status == 200, answer.body
        return int(answer.json()["total_cost_usd_micros"])

    assert (await total(owner), await total(developer)) == (105, 5)
    assert (await stage.client(owner).get("/v1/usage", query={"group_by": "shoe"})).code == "unknown_group"
    events = (await stage.client(developer).get("/v1/usage-events")).json()
    assert [event["id"] for event in events["items"]] == [str(mine.step_id)]
    assert (await stage.client(developer).get("/v1/usage-records")).code == "own_only"


async def test_a_run_is_listed_attempt_by_attempt(stage: Stage) -> None:
    owner, run_id = await stage.caller("org_owner"), new_id()
    told = [step(run_id=run_id, attempt=attempt, cost_usd_micros=attempt) for attempt in range(1, 6)]
    await receive_batch(stage, owner.organization_id, *told, step())
    client, seen, cursor = stage.client(owner), [], ""
    while True:
        query = {"run_id": str(run_id), "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/usage-events", query=query)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert [event["attempt"] for event in seen] == [1, 2, 3, 4, 5]
    assert sum(event["cost_usd_micros"] for event in seen) == 15
    records = (await client.get("/v1/usage-records")).json()["items"]
    assert [record["cost_usd_micros"] for record in records] == [22]
