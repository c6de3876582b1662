"""Every service's decisions are kept in one place."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.uow import UnitOfWork
from contracts.policy import DECIDED, DecisionRecorded
from policy.usecases import decisions
from spine.facts import ReceivedFact, on


@on(*DECIDED.values(), batch=True)
async def record_decisions(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
    """Keep them, each once."""
    found = [
        (received.fact, received.producer, received.envelope.time)
        for received in facts
        if isinstance(received.fact, DecisionRecorded)
    ]
    await decisions.record_decisions(uow, found)
