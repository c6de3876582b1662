"""What people decided about a run or a promotion, or did not in time."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.policy import ApprovalDecided, ApprovalExpired, ApprovalState
from execution.usecases import approvals, promotion_requests
from spine.facts import on


@on(ApprovalDecided, ApprovalExpired)
async def answer_approval(uow: UnitOfWork, fact: ApprovalState) -> None:
    """A person approved or rejected, or nobody did."""
    if fact.promotion_id is not None:
        await promotion_requests.answer_promotion(uow, fact.promotion_id, fact)
    else:
        await approvals.answer_approval(uow, fact)
