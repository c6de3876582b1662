"""What runs ask people for, and what of it nobody has to answer any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from chassis.uow import UnitOfWork
from contracts.envelope import Fact
from contracts.execution import RunCancelled, RunEnded, RunFailed, RunTimedOut, RunWaitStarted, StepSkipped
from policy.domain.approvals import Withdrawal
from policy.usecases import approvals
from spine.facts import ReceivedFact, on

# A run completes only after each step it waited for was answered or skipped: its end has nothing to withdraw.
_ENDS: dict[type[Fact], Withdrawal] = {
    RunFailed: Withdrawal.RUN_FAILED,
    RunCancelled: Withdrawal.RUN_CANCELLED,
    RunTimedOut: Withdrawal.RUN_TIMED_OUT,
}


@on(RunWaitStarted)
async def request_approvals(uow: UnitOfWork, fact: RunWaitStarted) -> None:
    """A run waits; what of it needs somebody's approval is asked for."""
    await approvals.request_approvals(uow, fact.approvals, run_id=fact.run_id)


@on(*_ENDS, batch=True)
async def withdraw_approvals(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
    """They ended before anybody decided."""
    ended: dict[Withdrawal, list[UUID]] = defaultdict(list)
    for received in facts:
        if isinstance(received.fact, RunEnded):
            ended[_ENDS[type(received.fact)]].append(received.fact.run_id)
    for why, run_ids in ended.items():
        await approvals.withdraw_approvals(uow, why, run_ids)


@on(StepSkipped, batch=True)
async def withdraw_skipped(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
    """Their runs go on without what these steps waited for."""
    skipped = [received.fact for received in facts if isinstance(received.fact, StepSkipped)]
    run_ids, step_ids = [fact.run_id for fact in skipped], [fact.step_id for fact in skipped]
    await approvals.withdraw_approvals(uow, Withdrawal.STEP_SKIPPED, run_ids, step_ids)
