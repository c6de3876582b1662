"""Promotions: a version of an agent goes to the workspace that takes its versions from the agent's own."""

from __future__ import annotations

from uuid import UUID

from chassis.uow import UnitOfWork
from execution.tables.agents import Agent
from execution.tables.promotions import PromotionRequest
from execution.usecases.promotion_plans import carry_out, plan_agent_promotion
from execution.usecases.promotion_requests import request_promotion
from resources.upserts import Applied


async def promote_agent(
    uow: UnitOfWork, agent_id: UUID, *, to_workspace: str, semver: str
) -> Applied[Agent] | PromotionRequest:
    """Bring a version of an agent, unchanged, into the workspace whose `promotion_from` is the agent's; current there.

    Where that workspace wants to be asked, this asks, and it is done once somebody has approved. ConflictError by
    `plan_agent_promotion`, `carry_out` and `request_promotion`.
    """
    planned = await plan_agent_promotion(uow, agent_id, to_workspace=to_workspace, semver=semver)
    if planned.needs_approval:
        return await request_promotion(uow, planned)
    return await carry_out(uow, planned)
