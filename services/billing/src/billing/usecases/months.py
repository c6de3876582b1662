"""Monthly records: each fact adds to its month; a month's first record begins with what exists."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from billing.domain.plans import month_of
from billing.tables.usage import CountedThing, UsageRecord
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from resources.listing import Resource, lister

Noun = Literal["user", "agent", "gateway"]
NOUNS: tuple[Noun, ...] = ("user", "agent", "gateway")

USAGE_RECORDS = Resource(
    UsageRecord, filters=("period_start", "period_end"), sorts=("period_start",), default_sort="-period_start"
)
list_usage_records = lister(USAGE_RECORDS)


async def count_thing(uow: UnitOfWork, *, noun: Noun, thing_id: UUID, alive: bool, version: int) -> None:
    """Note that a user, agent or gateway exists, or no more, and correct this month's count by it."""
    key = {"organization_id": uow.organization_id, "noun": noun, "id": thing_id}
    known: CountedThing | None = await uow.first(select(CountedThing).filter_by(**key).with_for_update())
    if known is not None and known.version >= version:
        return
    was_alive = known is not None and known.alive
    fresh = insert(CountedThing).values(**key, alive=alive, version=version)
    await uow.execute(
        fresh.on_conflict_do_update(
            index_elements=list(key), set_={"alive": alive, "version": version}, where=CountedThing.version < version
        )
    )
    await add_to_month(uow, month_of(uow.now)[0], **{f"{noun}s_count": alive - was_alive})


async def add_to_month(uow: UnitOfWork, month: datetime, **amounts: int) -> None:
    """Add these amounts to the month's record, which begins with what exists.

    The facts of each service arrive in transactions of their own, at once: every statement only adds what its fact
    brought, so that none overwrites another's count.
    """
    changes = {name: getattr(UsageRecord, name) + amount for name, amount in amounts.items()}
    changes |= {"updated_at": uow.now, "version": UsageRecord.version + 1}
    record = update(UsageRecord).where(
        UsageRecord.organization_id == uow.organization_id, UsageRecord.period_start == month
    )
    if await uow.all(record.values(changes).returning(UsageRecord.id)):
        return
    # What is counted by existing is in the count already, its own fact's included.
    summed = {name: amounts.get(name, 0) for name in ("executions_count", "storage_bytes", "cost_usd_micros")}
    first = insert(UsageRecord).values(
        id=new_id(),
        organization_id=uow.organization_id,
        period_start=month,
        period_end=month_of(month)[1],
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
        **summed,
        **await _counts(uow),
    )
    key = [UsageRecord.organization_id, UsageRecord.period_start]
    await uow.execute(first.on_conflict_do_update(index_elements=key, set_=changes))


async def _counts(uow: UnitOfWork) -> dict[str, int]:
    statement = (
        select(CountedThing.noun, func.count())
        .where(CountedThing.organization_id == uow.organization_id, CountedThing.alive)
        .group_by(CountedThing.noun)
    )
    found = {row[0]: int(row[1]) for row in await uow.execute(statement)}
    return {f"{noun}s_count": found.get(noun, 0) for noun in NOUNS}
