"""The suites are only worth something if they fail: each rule is shown a service that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from libs.spine.tests.testing import parcels
from libs.spine.tests.testing.parcels import ParcelOut, ParcelsOut, add_parcel
from libs.spine.tests.testing.test_coverage import TestTables as Tables
from sqlalchemy import text

from chassis.caller import Caller
from chassis.http import Router, Uow
from chassis.settings import ServiceSettings
from remit_local.testing import Servers
from spine.service import Service
from spine.testing import Call, Examples, Stage, staged
from spine.testing.coverage import DoorCoverage, routes_of
from spine.testing.stage import unstarted

pytestmark = pytest.mark.anyio

router = Router("agent", prefix="/v1/flaws")
LEAK = "create function every_parcel() returns table (id uuid, name text) language sql security definer as 'select id, name from parcel'"


@router.post("", permission="agent:create")
async def change_silently(uow: Uow) -> ParcelOut:
    parcel = await add_parcel(uow, "silent")
    uow._facts.clear()
    return ParcelOut(id=parcel.id, name=parcel.name)


@router.get("", permission="agent:read")
async def list_everything(uow: Uow) -> ParcelsOut:
    rows = await uow.execute(text("select id, name from every_parcel()"))
    return ParcelsOut(items=[ParcelOut(id=row.id, name=row.name) for row in rows])


@router.get("/{parcel_id}", permission="agent:read")
async def get_anybodys(uow: Uow, parcel_id: UUID) -> ParcelOut:
    (row,) = await uow.execute(text("select id, name from every_parcel() where id = :id"), {"id": parcel_id}) or (None,)
    if row is None:
        return await parcels.get_parcel(uow, parcel_id)
    return ParcelOut(id=row.id, name=row.name)


def build(settings: ServiceSettings) -> Service:
    return Service("billing", settings, migrations=parcels.MIGRATIONS, routers=[parcels.router, router])


class Doors(DoorCoverage):
    service = unstarted(build, ServiceSettings, "billing")
    examples = Examples()


@Doors.examples.of("change_silently")
async def _(stage: Stage, caller: Caller) -> Call:
    return Call()


@Doors.examples.of("get_anybodys")
async def _(stage: Stage, caller: Caller) -> Call:
    return await parcels.EXAMPLES.calls["get_parcel"](stage, caller)


@pytest.fixture
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, ServiceSettings, "billing", servers.postgres_url) as made:
        await made.database.sql(LEAK)
        yield made


def route(name: str) -> APIRoute:
    return next(one for one in routes_of(Doors.service) if one.name == name)


async def test_a_change_without_a_fact_is_found(stage: Stage) -> None:
    with pytest.raises(AssertionError, match="left no fact"):
        await Doors().test_every_change_leaves_a_fact(stage, route("change_silently"))


async def test_a_leak_by_id_is_found(stage: Stage) -> None:
    with pytest.raises(AssertionError, match="brick"):
        await Doors().test_a_stranger_learns_nothing(stage, route("get_anybodys"))


async def test_a_leak_in_a_list_is_found(stage: Stage) -> None:
    with pytest.raises(AssertionError):
        await Doors().test_lists_show_one_organization(stage, route("list_everything"))


def test_a_route_without_an_example_is_found() -> None:
    with pytest.raises(AssertionError, match="no example"):
        Doors().test_every_route_has_an_example()


Check = Callable[[Tables, Stage], Awaitable[None]]


@pytest.mark.parametrize(
    ("flaw", "check"),
    [
        ("alter table parcel no force row level security", Tables.test_rows_of_organizations_are_forced_apart),
        ("alter table parcel disable row level security", Tables.test_raw_sql_sees_one_organization_or_nothing),
        ("create policy wide on parcel for select using (true)", Tables.test_policies_name_the_organization),
        ("create policy wide on parcel for select to remit_billing using (true)", Tables.test_policies_name_the_organization),
        ("create policy wide on parcel for select to remit_billing using (true)", Tables.test_raw_sql_sees_one_organization_or_nothing),
        ("create policy wide on outbox for insert to remit_billing with check (true)", Tables.test_policies_name_the_organization),
        ("drop index parcel_organization_id_created_at_id_idx", Tables.test_an_index_leads_with_the_organization),
        ("drop index parcel_organization_id_created_at_id_idx", Tables.test_the_migrations_make_what_the_rows_say),
        ("alter table parcel owner to remit_billing", Tables.test_no_role_is_mighty),
        ("alter table parcel alter name drop not null", Tables.test_the_migrations_make_what_the_rows_say),
        ("alter table parcel alter version type bigint", Tables.test_the_migrations_make_what_the_rows_say),
        ("alter table parcel add column colour text", Tables.test_the_migrations_make_what_the_rows_say),
        ("alter table parcel drop column updated_at", Tables.test_the_migrations_make_what_the_rows_say),
        ("create index parcel_name_idx on parcel (name)", Tables.test_the_migrations_make_what_the_rows_say),
        ("do $$ begin execute 'grant select on ' || (select inhrelid::regclass from pg_inherits join pg_class c on c.oid = inhrelid where c.relkind = 'r' limit 1) || ' to remit_billing'; end $$", Tables.test_leaves_are_closed),
    ],
)  # fmt: skip
async def test_a_flawed_database_is_found(stage: Stage, flaw: str, check: Check) -> None:
    suite: Any = Tables()
    await check(suite, stage)
    await stage.database.sql(flaw)
    with pytest.raises(AssertionError):
        await check(suite, stage)
