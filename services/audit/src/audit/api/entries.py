"""Routes of the log."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import BaseModel, Field

from audit.tables.entries import Entry
from audit.usecases import entries
from audit.usecases.entries import EntryFilter
from chassis.errors import InvalidError
from chassis.http import Router, Uow

router = Router("audit", prefix="/v1")

MAX_PAGE = 200


class EntryOut(BaseModel):
    """One fact in the log."""

    id: UUID
    organization_id: UUID
    workspace_id: UUID | None
    timestamp: datetime = Field(description="When it happened, by its producer's clock.")
    event_type: str
    resource_type: str
    resource_id: str
    action: str
    actor_type: str
    actor_id: str
    actor_email: str | None = None
    actor_ip: str | None = None
    changes: dict[str, Any] = Field(description="Changed fields: `{field: [before, after]}`.")
    context: dict[str, Any] = Field(description="What else the fact says.")
    result: str
    error_message: str
    run_id: UUID | None
    trace_id: str
    producer: str
    epoch: int
    sequence: int = Field(description="The producer's gapless number.")
    organization_sequence: int = Field(description="The organization's own gapless number of this producer.")
    leaf_index: int
    leaf_hash: str
    logged_at: datetime

    @classmethod
    def of(cls, row: Entry) -> Self:
        """The public form of a row."""
        data: dict[str, Any] = orjson.loads(row.body)["data"]
        columns = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name) and name != "leaf_hash"}
        return cls(
            **columns,
            timestamp=row.occurred_at,
            changes=data.pop("changes", None) or {},
            context=data,
            leaf_hash=row.leaf_hash.hex(),
        )


class EntryWithFactOut(EntryOut):
    """One entry with the fact as it was committed."""

    fact: str = Field(description="Base64 of the stored bytes: what `leaf_hash` is over, never written anew.")

    @classmethod
    def of(cls, row: Entry) -> Self:
        """The public form of a row, its bytes included."""
        return cls(**EntryOut.of(row).model_dump(), fact=base64.b64encode(row.body).decode())


class EntriesOut(BaseModel):
    """A page of the log."""

    items: list[EntryOut]
    next_cursor: str | None


class ProducerMarkOut(BaseModel):
    """One producer's part of an organization's log."""

    producer: str
    epoch: int
    highest_sequence: int
    contiguous_sequence: int = Field(description="Up to here nothing is missing.")
    missing: int = Field(
        description="Numbers below the highest that are not in the log, the quarantined ones included."
    )
    quarantined: int = Field(description="Facts put aside because they could not be read; none is dropped.")


class CoverageOut(BaseModel):
    """An organization's own completeness."""

    entries: int
    producers: list[ProducerMarkOut]


@router.get("/audit-entries", permission="audit:read")
async def list_entries(
    *,
    uow: Uow,
    run_id: UUID | None = None,
    event_type: str | None = None,
    actor_id: str | None = None,
    resource_type: str | None = None,
    resource_id: str | None = None,
    result: str | None = None,
    trace_id: str | None = None,
    first_time: Annotated[datetime | None, Query(alias="from")] = None,
    last_time: Annotated[datetime | None, Query(alias="to")] = None,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> EntriesOut:
    """What happened in the organization, newest first unless `order=asc`."""
    wanted = EntryFilter(
        run_id=run_id, event_type=event_type, actor_id=actor_id, resource_type=resource_type, resource_id=resource_id,
        result=result, trace_id=trace_id, first_time=first_time, last_time=last_time,
    )  # fmt: skip
    after = _place(cursor) if cursor else None
    rows = await entries.list_entries(uow, wanted, ascending=order == "asc", limit=limit, after=after)
    page = rows[:limit]
    next_cursor = _cursor(page[-1]) if len(rows) > limit else None
    return EntriesOut(items=[EntryOut.of(row) for row in page], next_cursor=next_cursor)


@router.get("/audit-entries/{entry_id}", permission="audit:read")
async def get_entry(uow: Uow, entry_id: UUID) -> EntryWithFactOut:
    """One entry, with the bytes of its fact."""
    return EntryWithFactOut.of(await entries.get_entry(uow, entry_id))


@router.get("/audit/coverage", permission="audit:read")
async def get_coverage(uow: Uow) -> CoverageOut:
    """How complete the organization's own log is."""
    return CoverageOut.model_validate(await entries.get_coverage(uow))


def _cursor(row: Entry) -> str:
    return base64.urlsafe_b64encode(f"{row.occurred_at.isoformat()} {row.id}".encode()).decode()


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        time, _, entry_id = base64.urlsafe_b64decode(cursor).decode().rpartition(" ")
        return datetime.fromisoformat(time).astimezone(UTC), UUID(entry_id)
    except ValueError as error:
        raise InvalidError("This cursor is not one that a list has given out.", code="invalid_cursor") from error
