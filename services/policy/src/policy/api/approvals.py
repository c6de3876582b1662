"""Routes of approvals: what people are asked, and what they say."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from policy.tables.approvals import ApprovalRequest
from policy.usecases import approvals
from resources.bodies import In
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("approval", prefix="/v1/approvals")


class ApprovalOut(BaseModel):
    """What is asked, of whom, and what was decided."""

    id: UUID
    organization_id: UUID
    run_id: UUID | None = Field(description="null: a promotion asks.")
    step_id: UUID | None = Field(description="null: the run itself may not start before.")
    promotion_id: UUID | None = Field(description="null: a run asks.")
    action: str
    resource_type: str
    resource_id: str
    requester_id: str
    approvers: list[str] = Field(description="`role:<role>` and `user:<id>`, any one of them.")
    digest: str = Field(description="SHA-256 of exactly what is asked.")
    context: dict[str, Any]
    policy_id: UUID | None
    rule_name: str
    asked_because: str
    status: str
    approver_id: str | None
    approved_at: datetime | None
    decided_at: datetime | None
    reason: str | None
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: ApprovalRequest) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class DecideApprovalIn(In):
    """What one says of it."""

    outcome: Literal["approved", "rejected"]
    reason: str = Field("", max_length=2000)
    digest: str | None = Field(None, max_length=64, description="Of what one has seen: refused where it is another.")


APPROVAL_LIST = Listing(approvals.APPROVALS, ApprovalOut)


@router.get("", permission="approval:read", **APPROVAL_LIST.options)
async def list_approvals(uow: Uow, query: Annotated[ListQuery, Depends(APPROVAL_LIST.query)]) -> Response:
    """Requests, the newest first; those that are decided, too. Whoever may decide one finds it here."""
    return APPROVAL_LIST.answer(await approvals.list_approvals(uow, query))


@router.get("/count", permission="approval:read")
async def count_approvals(uow: Uow, query: Annotated[ListQuery, Depends(APPROVAL_LIST.query)]) -> CountOut:
    """How many requests such a list would show."""
    return CountOut(count=await approvals.count_approvals(uow, query))


@router.get("/{approval_id}", permission="approval:read")
async def get_approval(uow: Uow, approval_id: UUID) -> ApprovalOut:
    """One request."""
    return ApprovalOut.of(await approvals.get_approval(uow, approval_id))


@router.post("/{approval_id}/decide", permission="approval:decide")
async def decide_approval(uow: Uow, approval_id: UUID, body: DecideApprovalIn) -> ApprovalOut:
    """Approve or reject it, as somebody other than the one who asks; the run then goes on, or the promotion is done."""
    decided = await approvals.decide_approval(
        uow, approval_id, outcome=body.outcome, reason=body.reason, digest=body.digest
    )
    return ApprovalOut.of(decided)
