"""Attempts at steps and accepted runs are what is billed."""

from __future__ import annotations

from collections.abc import Sequence

from billing.usecases import booking
from chassis.uow import UnitOfWork
from contracts.execution import RunQueued, StepCompleted, StepEnded, StepFailed
from spine.facts import ReceivedFact, on


@on(StepCompleted, StepFailed, batch=True)
async def book_steps(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
    """Each attempt is booked once, failed ones too: their tokens were spent."""
    await booking.book_steps(uow, [received.fact for received in facts if isinstance(received.fact, StepEnded)])


@on(RunQueued, batch=True)
async def count_runs(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
    """Each run counts in the month it was accepted in."""
    runs = [(received.fact, received.envelope.time) for received in facts if isinstance(received.fact, RunQueued)]
    await booking.count_runs(uow, runs)
