from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from libs.spine.tests.testing.parcels import MIGRATIONS, Parcel, ParcelCreated, ParcelOrdered, add_parcel, build

from chassis.ids import new_id
from chassis.settings import ServiceSettings
from remit_local.testing import Servers
from spine.testing import Stage, clone, staged

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, ServiceSettings, "billing", servers.postgres_url) as made:
        yield made


async def test_a_use_case_runs_on_the_unprivileged_role(stage: Stage) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        parcel = await add_parcel(uow, "brick")
        rows = await uow._raw.fetch("select current_user, rolbypassrls from pg_roles where rolname = current_user")
    assert [tuple(row) for row in rows] == [("remit_billing", False)]
    async with stage.begin(await stage.caller()) as uow:
        assert await uow.find(Parcel, parcel.id) is None
    assert await stage.database.value("select name from parcel where id = $1", parcel.id) == "brick"


async def test_the_door_takes_real_tokens_only(stage: Stage) -> None:
    caller = await stage.caller("viewer")
    answer = await stage.client(caller).get("/v1/parcels")
    assert (answer.status, answer.json()) == (200, {"items": []})
    assert (await stage.client(None).get("/v1/parcels")).status == 401
    forged = {"authorization": "Bearer " + "x" * 40}
    assert (await stage.client(caller).get("/v1/parcels", headers=forged)).code == "unauthenticated"


async def test_rights_come_from_the_role(stage: Stage) -> None:
    organization_id = await stage.organization()
    owner = stage.client(await stage.caller("org_owner", organization_id))
    made = await owner.post("/v1/parcels", {"name": "brick"})
    assert made.status == 201
    viewer = stage.client(await stage.caller("viewer", organization_id))
    path = f"/v1/parcels/{made.json()['id']}"
    assert (await viewer.get(path)).json() == made.json()
    assert (await viewer.patch(path, {"name": "x"})).code == "missing_permission"
    stranger = stage.client(await stage.caller())
    assert (await stranger.get(path)).status == 404
    scoped = stage.client(await stage.caller("org_owner", organization_id, ("run:read",)))
    assert (await scoped.get(path)).code == "missing_scope"


async def test_a_suspended_organization_is_shut_out(stage: Stage) -> None:
    caller = await stage.caller(organization_id=await stage.organization("suspended"))
    assert (await stage.client(caller).get("/v1/parcels")).code == "organization_suspended"


async def test_facts_show_what_was_published(stage: Stage) -> None:
    caller = await stage.caller()
    made = await stage.client(caller).post("/v1/parcels", {"name": "brick"})
    (fact,) = await stage.facts(ParcelCreated, organization_id=caller.organization_id)
    assert fact.data == {"parcel_id": made.json()["id"]}
    assert fact.actor.id == caller.id
    assert await stage.facts(ParcelCreated, organization_id=new_id()) == []


async def test_consumers_receive_facts_of_others(stage: Stage) -> None:
    caller = await stage.caller()
    ordered = ParcelOrdered(parcel_id=new_id(), name="ordered")
    await stage.receive(caller.organization_id, ordered)
    assert (await stage.client(caller).get("/v1/parcels")).json()["items"][0]["name"] == "ordered"
    (made,) = await stage.facts(ParcelCreated, organization_id=caller.organization_id)
    assert made.causation_id


async def test_each_clone_is_fresh_and_gone_afterwards(stage: Stage, servers: Servers) -> None:
    async with stage.begin(await stage.caller()) as uow:
        await add_parcel(uow, "brick")
    async with clone(servers.postgres_url, "billing", MIGRATIONS) as fresh:
        assert await fresh.value("select count(*) from parcel") == 0
        async with fresh.connect("relay") as relay:
            assert await relay.fetchval("select count(*) from outbox") == 0
    assert await stage.database.value("select count(*) from pg_database where datname = $1", fresh.name) == 0
