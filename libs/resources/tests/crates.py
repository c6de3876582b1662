"""A small service whose one noun does everything a resource can do."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import chassis.db
from chassis.http import Router, Uow
from chassis.ids import new_id
from chassis.settings import ServiceSettings
from chassis.uow import UnitOfWork
from contracts.envelope import Fact
from resources.bulk import BulkOut, Items, bulk
from resources.http import CountOut, ExpectedVersion, Listing, PageOut
from resources.listing import ListQuery, Resource, counter, lister
from resources.lives import get_living, restore, retire
from resources.patches import PatchIn, apply_patch
from resources.upserts import upsert
from resources.versions import etag, require_version
from spine.service import Service

MIGRATIONS = Path(__file__).parent / "crates_migrations"
TAKEN = "A crate of this name is already here."


class Row(chassis.db.Row):
    __abstract__ = True
    metadata = MetaData(naming_convention=chassis.db.NAMING)


class Crate(Row):
    __tablename__ = "crate"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    name: Mapped[str]
    colour: Mapped[str | None]
    weight: Mapped[int]
    is_open: Mapped[bool]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    input: Mapped[dict[str, Any]] = mapped_column(JSONB)
    packed_on: Mapped[date | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]
    deleted_at: Mapped[datetime | None]


class CrateChanged(Fact):
    type: ClassVar = "billing.crate.changed.v1"
    subject_field: ClassVar = "crate_id"
    crate_id: UUID
    how: str


CRATES = Resource(
    Crate,
    filters=("id", "name", "colour", "weight", "is_open", "packed_on", "created_at", "content"),
    sorts=("created_at", "weight", "name", "is_open"),
    search=("name", "colour"),
    words={"colour": ("red", "green", "blue")},
    retired="deleted_at",
)
list_crates_of = lister(CRATES)
count_crates_of = counter(CRATES)


async def make_crate(uow: UnitOfWork, name: str, **fields: Any) -> Crate:
    crate = Crate(
        **{
            "id": new_id(), "organization_id": uow.organization_id, "name": name, "colour": None, "weight": 1,
            "is_open": False, "content": {}, "input": {}, "packed_on": None, "created_by": uow.caller.owner_id,
            "created_at": uow.now, "updated_at": uow.now, "version": 1, "deleted_at": None, **fields,
        }
    )  # fmt: skip
    await uow.add(crate, conflict=TAKEN)
    uow.emit(CrateChanged(crate_id=crate.id, how="created"))
    return crate


class CrateOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    colour: str | None
    weight: int
    is_open: bool
    content: dict[str, Any]
    input: dict[str, Any] | None
    packed_on: date | None
    created_at: datetime
    version: int

    @classmethod
    def of(cls, row: Crate) -> Self:
        return cls.model_validate(row)


class CrateIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=20)
    weight: int = Field(1, ge=1)
    content: dict[str, Any] = {}


class UpdateCrateIn(PatchIn):
    name: str = ""
    colour: str | None = None
    content: dict[str, Any] = {}


class CratesIn(BaseModel):
    items: Items[CrateIn]


CRATE_LIST = Listing(CRATES, CrateOut)
CrateQuery = Annotated[ListQuery, Depends(CRATE_LIST.query)]
router = Router("agent", prefix="/v1/crates")


@router.post("", permission="agent:create", status=201)
async def create_crate(uow: Uow, response: Response, body: CrateIn) -> CrateOut:
    crate = await make_crate(uow, **body.model_dump())
    response.headers["ETag"] = etag(crate.version)
    return CrateOut.of(crate)


@router.get("", permission="agent:read", **CRATE_LIST.options)
async def list_crates(uow: Uow, query: CrateQuery) -> Response:
    return CRATE_LIST.answer(await list_crates_of(uow, query))


@router.get("/by-orm", permission="agent:read")
async def list_crates_by_orm(uow: Uow, query: CrateQuery) -> PageOut[CrateOut]:
    """The same page through rows and models: what the shorter way is compared with."""
    from sqlalchemy import select

    rows = await uow.all(select(Crate).order_by(Crate.created_at.desc(), Crate.id.desc()).limit(query.limit))
    return PageOut(items=[CrateOut.of(row) for row in rows], next_cursor=None)


@router.get("/count", permission="agent:read")
async def count_crates(uow: Uow, query: CrateQuery) -> CountOut:
    return CountOut(count=await count_crates_of(uow, query))


@router.post("/bulk", permission="agent:create")
async def create_crates(uow: Uow, body: CratesIn) -> BulkOut[CrateOut]:
    async def create(item: CrateIn) -> CrateOut:
        return CrateOut.of(await make_crate(uow, **item.model_dump()))

    return BulkOut[CrateOut].of(await bulk(uow, body.items, create, operation="create_crates", status=201))


@router.put("/by-name/{name}", permission="agent:create")
async def put_crate(uow: Uow, response: Response, name: str, body: CrateIn) -> CrateOut:
    async def update(crate: Crate) -> Crate:
        if apply_patch(uow, crate, {"weight": body.weight}):
            uow.emit(CrateChanged(crate_id=crate.id, how="updated"))
        return crate

    crate, created = await upsert(
        uow, Crate, {"name": name}, create=lambda: make_crate(uow, name, weight=body.weight), update=update
    )
    response.status_code = 201 if created else 200
    return CrateOut.of(crate)


@router.get("/{crate_id}", permission="agent:read")
async def get_crate(uow: Uow, crate_id: UUID) -> CrateOut:
    return CrateOut.of(await get_living(uow, Crate, crate_id))


@router.patch("/{crate_id}", permission="agent:update")
async def update_crate(
    uow: Uow, response: Response, crate_id: UUID, body: UpdateCrateIn, expected: ExpectedVersion
) -> CrateOut:  # fmt: skip
    crate = await get_living(uow, Crate, crate_id, lock=True)
    require_version(crate.version, expected)
    if apply_patch(uow, crate, body.given()):
        uow.emit(CrateChanged(crate_id=crate.id, how="updated"))
    response.headers["ETag"] = etag(crate.version)
    return CrateOut.of(crate)


@router.delete("/{crate_id}", permission="agent:delete")
async def delete_crate(uow: Uow, crate_id: UUID) -> None:
    crate = await get_living(uow, Crate, crate_id, lock=True)
    retire(uow, crate)
    uow.emit(CrateChanged(crate_id=crate.id, how="deleted"))


@router.post("/{crate_id}/restore", permission="agent:restore")
async def restore_crate(uow: Uow, crate_id: UUID) -> CrateOut:
    crate = await uow.get(Crate, crate_id, lock=True)
    was_deleted = await restore(uow, crate, conflict=TAKEN)
    if was_deleted:
        uow.emit(CrateChanged(crate_id=crate.id, how="restored"))
    return CrateOut.of(crate)


def build(settings: ServiceSettings) -> Service:
    return Service("billing", settings, migrations=MIGRATIONS, routers=[router])
