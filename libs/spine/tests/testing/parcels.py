"""A small service to try the test kit on; it calls itself billing, because refusals are facts of the six services."""

from datetime import datetime
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import Index, MetaData, select, text
from sqlalchemy.orm import Mapped, mapped_column

import chassis.caller
import chassis.db
from chassis.http import Router, Uow
from chassis.ids import new_id
from chassis.settings import ServiceSettings
from chassis.uow import UnitOfWork
from contracts.envelope import Fact
from spine.facts import on
from spine.service import Service
from spine.testing import Call, Examples, Stage

MIGRATIONS = Path(__file__).parent / "parcels_migrations"


class Row(chassis.db.Row):
    __abstract__ = True
    metadata = MetaData(naming_convention=chassis.db.NAMING)


class Parcel(Row):
    __tablename__ = "parcel"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    name: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]
    __table_args__ = (
        Index("parcel_organization_id_created_at_id_idx", "organization_id", text("created_at desc"), text("id desc")),
    )


class ParcelCreated(Fact):
    type: ClassVar = "billing.parcel.created.v1"
    subject_field: ClassVar = "parcel_id"
    parcel_id: UUID


class ParcelRenamed(Fact):
    type: ClassVar = "billing.parcel.renamed.v1"
    subject_field: ClassVar = "parcel_id"
    parcel_id: UUID


class ParcelOrdered(Fact):
    """Another service's fact, which makes a parcel here."""

    type: ClassVar = "execution.parcel.ordered.v1"
    subject_field: ClassVar = "parcel_id"
    parcel_id: UUID
    name: str


async def add_parcel(uow: UnitOfWork, name: str, parcel_id: UUID | None = None) -> Parcel:
    parcel = Parcel(
        id=parcel_id or new_id(), organization_id=uow.organization_id, name=name, created_by=uow.caller.owner_id,
        created_at=uow.now, updated_at=uow.now, version=1,
    )  # fmt: skip
    await uow.add(parcel)
    uow.emit(ParcelCreated(parcel_id=parcel.id))
    return parcel


@on(ParcelOrdered)
async def take_order(uow: UnitOfWork, fact: ParcelOrdered) -> None:
    await add_parcel(uow, fact.name, fact.parcel_id)


class ParcelIn(BaseModel):
    name: str = Field(min_length=1, max_length=20)


class ParcelOut(BaseModel):
    id: UUID
    name: str


class ParcelsOut(BaseModel):
    items: list[ParcelOut]


router = Router("agent", prefix="/v1/parcels")


@router.post("", permission="agent:create", status=201)
async def create_parcel(uow: Uow, body: ParcelIn) -> ParcelOut:
    parcel = await add_parcel(uow, body.name)
    return ParcelOut(id=parcel.id, name=parcel.name)


@router.get("", permission="agent:read")
async def list_parcels(uow: Uow) -> ParcelsOut:
    rows = await uow.all(select(Parcel).order_by(Parcel.created_at).limit(50))
    return ParcelsOut(items=[ParcelOut(id=row.id, name=row.name) for row in rows])


@router.get("/{parcel_id}", permission="agent:read")
async def get_parcel(uow: Uow, parcel_id: UUID) -> ParcelOut:
    parcel = await uow.get(Parcel, parcel_id)
    return ParcelOut(id=parcel.id, name=parcel.name)


@router.patch("/{parcel_id}", permission="agent:update")
async def rename_parcel(uow: Uow, parcel_id: UUID, body: ParcelIn) -> ParcelOut:
    parcel = await uow.get(Parcel, parcel_id, lock=True)
    parcel.name = body.name
    uow.emit(ParcelRenamed(parcel_id=parcel.id))
    return ParcelOut(id=parcel.id, name=parcel.name)


def build(settings: ServiceSettings) -> Service:
    return Service("billing", settings, migrations=MIGRATIONS, routers=[router], consumers=[take_order])


EXAMPLES = Examples()


@EXAMPLES.of("create_parcel")
async def _(stage: Stage, caller: chassis.caller.Caller) -> Call:
    return Call(body={"name": "brick"})


@EXAMPLES.of("get_parcel", "rename_parcel")
async def _(stage: Stage, caller: chassis.caller.Caller) -> Call:
    async with stage.begin(caller) as uow:
        parcel = await add_parcel(uow, "brick")
    return Call(path={"parcel_id": parcel.id}, body={"name": "stone"})
