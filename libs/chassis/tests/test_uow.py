"""What a unit of work does when the database says no."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from libs.spine.tests.testing.parcels import Parcel, ParcelCreated, ParcelRenamed, add_parcel, build
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from chassis.errors import ConflictError, InvalidError
from chassis.settings import ServiceSettings
from remit_local.testing import Servers
from spine.testing import Stage, staged

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, ServiceSettings, "billing", servers.postgres_url) as made:
        yield made


def again(parcel: Parcel) -> Parcel:
    values = {column.name: getattr(parcel, column.name) for column in Parcel.__table__.columns}
    return Parcel(**(values | {"name": "second of its name"}))


async def names(stage: Stage, parcel: Parcel) -> list[str]:
    rows = await stage.database.sql("select name from parcel where organization_id = $1", parcel.organization_id)
    return sorted(row["name"] for row in rows)


async def test_a_taken_key_is_a_conflict_and_the_rest_goes_on(stage: Stage) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        first = await add_parcel(uow, "first")
    async with stage.begin(caller) as uow:
        await add_parcel(uow, "before")
        with pytest.raises(ConflictError) as refused:
            await uow.add(again(first), conflict="There is one already.")
        assert (refused.value.code, refused.value.detail) == ("already_exists", "There is one already.")
        await add_parcel(uow, "after")
    assert await names(stage, first) == ["after", "before", "first"]
    assert len(await stage.facts(ParcelCreated, organization_id=caller.organization_id)) == 3


async def test_what_was_pending_before_a_refused_row_is_kept(stage: Stage) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        first = await add_parcel(uow, "first")
        second = await add_parcel(uow, "second")
    async with stage.begin(caller) as uow:
        found = await uow.get(Parcel, second.id, lock=True)
        found.name = "renamed"
        uow.emit(ParcelRenamed(parcel_id=found.id))
        with pytest.raises(ConflictError):
            await uow.add(again(first), conflict="taken")
        assert (await uow.get(Parcel, second.id)).name == "renamed"
        assert sorted(row.name for row in await uow.all(select(Parcel))) == ["first", "renamed"]
    assert await names(stage, first) == ["first", "renamed"]
    assert len(await stage.facts(ParcelRenamed, organization_id=caller.organization_id)) == 1


async def test_without_a_conflict_text_the_unit_of_work_fails_whole(stage: Stage) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        first = await add_parcel(uow, "first")

    async def add_both() -> None:
        async with stage.begin(caller) as uow:
            await add_parcel(uow, "before")
            await uow.add(again(first))

    with pytest.raises(IntegrityError, match="parcel_pkey"):
        await add_both()
    assert await names(stage, first) == ["first"]


async def test_text_the_database_cannot_hold_is_the_callers_mistake(stage: Stage) -> None:
    with pytest.raises(InvalidError) as refused:
        async with stage.begin(await stage.caller()) as uow:
            await add_parcel(uow, "a\0b")
    assert refused.value.code == "invalid_text"


async def test_locking_a_row_again_keeps_what_was_changed(stage: Stage) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        first = await add_parcel(uow, "first")
    async with stage.begin(caller) as uow:
        (await uow.get(Parcel, first.id, lock=True)).name = "renamed"
        assert (await uow.get(Parcel, first.id, lock=True)).name == "renamed"
    assert await names(stage, first) == ["renamed"]
