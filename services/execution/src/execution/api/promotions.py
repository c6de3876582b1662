"""Routes of promotions: a version goes to the next workspace, at once or when somebody has approved it."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit
from execution.api import VersionNumber
from execution.api.agents import AgentOut, AppliedAgentOut
from execution.tables.promotions import PromotionRequest
from execution.usecases import promotion_requests, promotions
from resources.bodies import In, Reference
from resources.http import Listing
from resources.listing import ListQuery

router = Router("agent", prefix="/v1/agents")


class PromoteAgentIn(In):
    """Where a version goes to: a workspace by id or name."""

    to_workspace: Reference
    version: VersionNumber = "current"


class PromotionOut(BaseModel):
    """A promotion that was to be approved, and what came of it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID = Field(description="Also of the approval.")
    organization_id: UUID
    agent_id: UUID
    agent_version_id: UUID
    semver: str
    digest: str
    from_workspace_id: UUID
    to_workspace_id: UUID
    approvers: list[str] = Field(description="`role:<role>` and `user:<id>`, any one of them.")
    created_by: str
    status: str = Field(description="pending, promoted, rejected, expired, or failed (`error_code` says why).")
    approver_id: str | None
    reason: str | None
    decided_at: datetime | None
    error_code: str | None
    error_message: str | None
    promoted_agent_id: UUID | None = Field(description="The agent in the workspace it went to.")
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: PromotionRequest) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


PROMOTION_LIST = Listing(promotion_requests.PROMOTIONS, PromotionOut)


@router.post("/{agent_id}/promote", permission="agent:promote")
async def promote_agent(
    request: Request, response: Response, agent_id: UUID, body: PromoteAgentIn
) -> AppliedAgentOut | PromotionOut:
    """Bring a revision, unchanged, into the workspace that takes its agents from this one's; again changes nothing.

    Answers 202 with the Location of a promotion where somebody has to approve it first.
    """
    promoted = await in_unit(
        request,
        lambda uow: promotions.promote_agent(uow, agent_id, to_workspace=body.to_workspace, semver=body.version),
    )
    if isinstance(promoted, PromotionRequest):
        response.status_code = 202
        response.headers["Location"] = f"/v1/agents/{agent_id}/promotions/{promoted.id}"
        return PromotionOut.of(promoted)
    return AppliedAgentOut(agent=AgentOut.model_validate(promoted.row), changed=promoted.changed)


@router.get("/{agent_id}/promotions", permission="agent:read", **PROMOTION_LIST.options)
async def list_promotions(
    uow: Uow, agent_id: UUID, query: Annotated[ListQuery, Depends(PROMOTION_LIST.query)]
) -> Response:
    """The promotions of an agent that were to be approved, the newest first."""
    return PROMOTION_LIST.answer(await promotion_requests.list_promotions(uow, agent_id, query))


@router.get("/{agent_id}/promotions/{promotion_id}", permission="agent:read")
async def get_promotion(uow: Uow, agent_id: UUID, promotion_id: UUID) -> PromotionOut:
    """One promotion: whether it waits, was done, or why not."""
    return PromotionOut.of(await promotion_requests.get_promotion(uow, agent_id, promotion_id))
