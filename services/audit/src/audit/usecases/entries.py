"""Reading the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, tuple_

from audit.domain.leaves import RETENTION_CLASSES
from audit.tables.entries import Entry, OrganizationWatermark, TreeHead
from chassis.errors import NotFoundError
from chassis.uow import UnitOfWork
from spine.sink import SINK
from spine.stream import stream_of

_QUARANTINED = """select stream, count(*) as facts from parked_fact
where organization_id = $1 and starts_with(stream, $2) and resolved_at is null group by stream"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """What to look for; None asks nothing."""

    run_id: UUID | None = None
    event_type: str | None = None
    actor_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    result: str | None = None
    trace_id: str | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None


async def list_entries(
    uow: UnitOfWork, wanted: EntryFilter, *, ascending: bool, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[Entry]:
    """The organization's entries by time, one more than `limit` where there are more."""
    statement = select_entries(uow.organization_id, wanted, ascending=ascending, limit=limit + 1, after=after)
    entries: Sequence[Entry] = await uow.all(statement.where(*_own(uow)))
    return entries


def select_entries(
    organization_id: UUID, wanted: EntryFilter, *, ascending: bool, limit: int, after: tuple[datetime, UUID] | None
) -> Select[Entry]:
    """The statement of a list, so that a test can look at its plan."""
    statement = select(Entry).where(Entry.organization_id == organization_id, *_conditions(wanted))
    if after is not None:
        place = tuple_(Entry.occurred_at, Entry.id)
        statement = statement.where(place > after if ascending else place < after)
    return _ordered(statement, ascending=ascending).limit(limit)


async def get_entry(uow: UnitOfWork, entry_id: UUID) -> Entry:
    """One entry with the bytes of its fact."""
    statement = select(Entry).where(
        Entry.organization_id == uow.organization_id,
        Entry.retention_class.in_(RETENTION_CLASSES),
        Entry.id == entry_id,
        *_own(uow),
    )
    entry: Entry | None = await uow.first(statement)
    if entry is None:
        raise NotFoundError("There is no entry with this id.")
    # Whose it is, the statement has asked already; what is left are the organization's rules.
    attributes = {
        "event_type": entry.event_type,
        "resource_type": entry.resource_type,
        "created_by": uow.permit.owner_id,
    }
    uow.permit.check("audit", str(entry_id), attributes)
    return entry


async def get_coverage(uow: UnitOfWork) -> dict[str, Any]:
    """The organization's own completeness: its size, and per producer the number up to which nothing is missing."""
    size = await uow.first(select(TreeHead.size).where(TreeHead.organization_id == uow.organization_id))
    statement = select(OrganizationWatermark).where(OrganizationWatermark.organization_id == uow.organization_id)
    marks: Sequence[OrganizationWatermark] = await uow.all(statement.order_by(OrganizationWatermark.producer))
    quarantined = {row["stream"]: row["facts"] for row in await uow.fetch(_QUARANTINED, uow.organization_id, SINK)}
    producers = [
        {
            "producer": mark.producer,
            "epoch": mark.epoch,
            "highest_sequence": mark.sequence,
            "contiguous_sequence": mark.contiguous,
            "missing": mark.missing,
            "quarantined": quarantined.get(SINK + stream_of(mark.producer), 0),
        }
        for mark in marks
    ]
    return {"entries": size or 0, "producers": producers}


def _conditions(wanted: EntryFilter) -> list[ColumnElement[bool]]:
    times = {"first_time": Entry.occurred_at.__ge__, "last_time": Entry.occurred_at.__le__}
    found: list[ColumnElement[bool]] = []
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        if value is not None:
            found.append(times[field.name](value) if field.name in times else getattr(Entry, field.name) == value)
    return found


def _own(uow: UnitOfWork) -> list[ColumnElement[bool]]:
    if not uow.permit.own_only:
        return []
    return [or_(Entry.actor_id == uow.caller.id, Entry.owner_id == uow.permit.owner_id)]


def _ordered(statement: Select[Entry], *, ascending: bool) -> Select[Entry]:
    if ascending:
        return statement.order_by(Entry.occurred_at, Entry.id)
    return statement.order_by(Entry.occurred_at.desc(), Entry.id.desc())
