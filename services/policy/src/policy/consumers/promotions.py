"""What promotions ask people for, and what of it nobody has to answer any more."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.releases import PromotionRefused, PromotionRequested
from policy.usecases import approvals
from spine.facts import on


@on(PromotionRequested)
async def request_promotion_approval(uow: UnitOfWork, fact: PromotionRequested) -> None:
    """A version is to go to a workspace that wants to be asked."""
    await approvals.request_approvals(uow, [fact.approval], promotion_id=fact.promotion_id)


@on(PromotionRefused)
async def withdraw_promotion(uow: UnitOfWork, fact: PromotionRefused) -> None:
    """It will not be done, whatever people say."""
    await approvals.withdraw_promotions(uow, [fact.promotion_id])
