"""How long ago identity last said how far its facts go: what keeps a cut-off edge from trusting revoked keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from chassis.uow import UnitOfWork
from gateway.tables.callers import ProducerFreshness


async def note_attestation(uow: UnitOfWork, producer: str, attested_at: datetime) -> None:
    """Remember when a producer last spoke; an earlier time changes nothing."""
    given = insert(ProducerFreshness).values(producer=producer, attested_at=attested_at)
    newest = func.greatest(ProducerFreshness.attested_at, given.excluded.attested_at)
    await uow.execute(given.on_conflict_do_update(index_elements=["producer"], set_={"attested_at": newest}))
