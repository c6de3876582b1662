"""Is anything missing? Per producer, for the platform; and telling of what was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from audit.tables.producers import Gap, PlatformOrganization, Producer
from chassis.caller import Caller
from chassis.uow import UnitOfWork
from contracts.audit import GapDetected, GapHealed
from contracts.catalog import SERVICES
from spine.sink import SINK
from spine.stream import stream_of

ANNOUNCED_AT_ONCE = 100


async def get_platform_coverage(uow: UnitOfWork) -> list[dict[str, Any]]:
    """Per producer: how far it attests, how far the log is contiguous, open gaps, quarantine, the attestation's age."""
    attested = {row.name: row for row in await uow.all(select(Producer))}
    offsets = dict(await _pairs(uow, "select stream, sequence from fact_offset"))
    quarantined = dict(await _pairs(uow, "select stream, facts from quarantined()"))
    open_gaps = dict(await _pairs(uow, "select producer, count(*) from gap where healed_at is null group by producer"))
    return [
        {
            "producer": name,
            "attested_sequence": attested[name].attested_sequence if name in attested else 0,
            "attestation_age_seconds": (uow.now - attested[name].attested_at).total_seconds()
            if name in attested
            else None,
            "contiguous_sequence": int(offsets.get(SINK + stream_of(name), 0)),
            "open_gaps": int(open_gaps.get(name, 0)),
            "quarantined": int(quarantined.get(SINK + stream_of(name), 0)),
        }
        for name in SERVICES
    ]


async def remember_platform(uow: UnitOfWork, organization_id: UUID) -> None:
    """Note which organization is the operator's."""
    statement = insert(PlatformOrganization).values(only=True, id=organization_id)
    await uow.execute(statement.on_conflict_do_nothing())


async def find_platform(uow: UnitOfWork) -> UUID | None:
    """The operator's organization; None before it has been bootstrapped."""
    found: UUID | None = await uow.first(select(PlatformOrganization.id))
    return found


async def announce_gaps(uow: UnitOfWork) -> int:
    """Tell of gaps that nobody has told of, in the operator's log; returns how many."""
    untold = or_(Gap.announced_at.is_(None), and_(Gap.healed_at.is_not(None), Gap.healing_announced_at.is_(None)))
    statement = select(Gap).where(untold).order_by(Gap.producer, Gap.first).limit(ANNOUNCED_AT_ONCE)
    gaps: Sequence[Gap] = await uow.all(statement.with_for_update(skip_locked=True, of=Gap))
    for gap in gaps:
        numbers: dict[str, Any] = {"producer": gap.producer, "first": gap.first, "last": gap.last}
        if gap.announced_at is None:
            uow.emit(GapDetected(**numbers))
            gap.announced_at = uow.now
        if gap.healed_at is not None:
            uow.emit(GapHealed(**numbers))
            gap.healing_announced_at = uow.now
    return len(gaps)


def teller(organization_id: UUID) -> Caller:
    """Who tells of gaps."""
    return Caller.system(organization_id, "audit.coverage")


async def _pairs(uow: UnitOfWork, statement: str) -> list[tuple[str, int]]:
    return [(row[0], row[1]) for row in await uow.execute(text(statement))]
