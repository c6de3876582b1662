from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest
from libs.spine.tests.stage import Stage
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from chassis import migration
from chassis.caller import Caller
from chassis.db import Row
from chassis.ids import new_id
from spine.facts import project

pytestmark = pytest.mark.anyio


class Shown(Row):
    __tablename__ = "shown"
    organization_id: Mapped[UUID]
    thing_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    name: Mapped[str]


async def make_table(stage: Stage) -> None:
    owner = await asyncpg.connect(stage.dsn(stage.consumer, "owner"))
    await owner.execute(
        "create table shown (organization_id uuid not null, thing_id uuid primary key, version integer, name text)"
    )
    for statement in migration.isolate(
        stage.consumer, "shown", sweep_columns=["thing_id", "version"], sweep_updates=["version"]
    ):
        await owner.execute(statement)
    await owner.close()


async def test_a_projection_applies_only_a_higher_version(stage: Stage) -> None:
    await make_table(stage)
    organization_id, thing_id = new_id(), new_id()
    changed = []
    for version, name in ((2, "two"), (1, "one"), (2, "again"), (3, "three")):
        async with stage.units(stage.consumer).begin(Caller.system(organization_id, "test")) as uow:
            values = {"organization_id": organization_id, "name": name}
            changed.append(await project(uow, Shown, {"thing_id": thing_id}, version, values))
    assert changed == [True, False, False, True]
    assert await stage.value(stage.consumer, "select name from shown") == "three"


async def test_going_on_in_another_organization_shows_nothing_of_the_first(stage: Stage) -> None:
    await make_table(stage)
    first, second, thing_id = new_id(), new_id(), new_id()
    async with stage.units(stage.consumer).begin(Caller.system(first, "test")) as uow:
        await uow.add(Shown(organization_id=first, thing_id=thing_id, version=1, name="mine"))
        assert await uow.find(Shown, thing_id) is not None
        await uow.become(Caller.system(second, "test"))
        assert await uow.find(Shown, thing_id) is None
        assert await uow.all(select(Shown)) == []


async def test_the_sweeper_sees_its_columns_of_all_organizations_and_no_more(stage: Stage) -> None:
    await make_table(stage)
    for _ in range(2):
        async with stage.units(stage.consumer).begin(Caller.system(organization_id := new_id(), "test")) as uow:
            await uow.add(Shown(organization_id=organization_id, thing_id=new_id(), version=1, name="x"))
    sweep = await asyncpg.connect(stage.dsn(stage.consumer, "sweep"))
    assert await sweep.fetchval("select count(thing_id) from shown") == 2
    await sweep.execute("update shown set version = 2")
    for statement in ("select name from shown", "update shown set name = 'y'", "delete from shown"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sweep.execute(statement)
    await sweep.close()


def test_roles_are_named_after_their_service_and_quoted() -> None:
    statements = migration.create_roles("audit", {"remit_audit": "it's"})
    assert "'it''s'" in statements[1]
    assert "nobypassrls" in statements[1]
    with pytest.raises(ValueError, match="no role of"):
        migration.create_roles("audit", {"remit_billing": "x"})
