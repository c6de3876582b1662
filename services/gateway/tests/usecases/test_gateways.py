from __future__ import annotations

import pytest
from services.gateway.tests.factories import EdgeStage

from chassis.caller import NOBODY, Caller
from contracts.gateway import GatewayCreated, GatewayRestated, GatewayUpdated
from gateway.usecases.across import restate_gateways

pytestmark = pytest.mark.anyio


async def test_an_organization_gets_one_default_gateway(stage: EdgeStage) -> None:
    holder = await stage.holder()
    facts = await stage.stage.facts(GatewayCreated, organization_id=holder.organization_id)
    assert [fact.data["is_default"] for fact in facts] == [True]
    caller = await stage.stage.caller(organization_id=holder.organization_id)
    gateway = (await stage.stage.client(caller).get("/v1/gateways")).json()["items"][0]
    assert (gateway["name"], gateway["status"], gateway["per_user_rate_limit"]) == ("default", "running", 50)
    assert (gateway["auth_methods"], gateway["api_port"], gateway["ssl_enabled"]) == (["api_key"], 8080, False)
    assert (await stage.stage.client(caller).get("/v1/gateways/count")).json() == {"count": 1}


async def test_a_change_needs_the_version_it_changes_and_is_published_once(stage: EdgeStage) -> None:
    holder = await stage.holder()
    client = stage.stage.client(await stage.stage.caller(organization_id=holder.organization_id))
    path = f"/v1/gateways/{(await client.get('/v1/gateways')).json()['items'][0]['id']}"
    assert (await client.patch(path, {"name": "front"})).status == 428
    assert (await client.patch(path, {"name": "front"}, headers={"If-Match": '"7"'})).status == 412
    changed = await client.patch(path, {"name": "front"}, headers={"If-Match": '"1"'})
    assert (changed.json()["name"], changed.headers["etag"]) == ("front", '"2"')
    same = await client.patch(path, {"name": "front"}, headers={"If-Match": '"2"'})
    assert same.headers["etag"] == '"2"'
    assert len(await stage.stage.facts(GatewayUpdated, organization_id=holder.organization_id)) == 1
    assert (await client.patch(path, {"status": "stopped"}, headers={"If-Match": '"2"'})).status == 422
    assert (await client.patch(path, {"per_user_rate_limit": 0}, headers={"If-Match": '"2"'})).status == 422


async def test_restating_publishes_every_organizations_gateway(stage: EdgeStage) -> None:
    one, other = await stage.holder(), await stage.holder()
    async with stage.stage.begin(Caller.system(NOBODY, "gateway.restate")) as uow:
        count = await restate_gateways(uow, None)
    restated = await stage.stage.facts(GatewayRestated)
    assert count == len(restated) >= 2
    assert {one.organization_id, other.organization_id} <= {fact.organization_id for fact in restated}
    async with stage.stage.begin(Caller.system(NOBODY, "gateway.restate")) as uow:
        assert await restate_gateways(uow, one.organization_id) == 1
