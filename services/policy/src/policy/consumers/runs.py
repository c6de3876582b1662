"""What runs ask people for, and runs that have ended without an answer."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.uow import UnitOfWork
from contracts.execution import RunCancelled, RunEnded, RunFailed, RunTimedOut, RunWaitStarted
from policy.usecases import approvals
from spine.facts import ReceivedFact, on


@on(RunWaitStarted)
async def request_approvals(uow: UnitOfWork, fact: RunWaitStarted) -> None:
    """A run waits; what of it needs somebody's approval is asked for."""
    await approvals.request_approvals(uow, fact.run_id, fact.approvals)


@on(RunFailed, RunCancelled, RunTimedOut, batch=True)
async def withdraw_approvals(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
    """They ended before anybody decided."""
    ended = [received.fact.run_id for received in facts if isinstance(received.fact, RunEnded)]
    await approvals.withdraw_approvals(uow, ended)
