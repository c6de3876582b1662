"""Routes of policies and whom they are for."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from policy.tables.policies import Policy, PolicyAssignment
from policy.usecases import policies
from resources.bodies import In
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.patches import PatchIn
from resources.versions import etag

router = Router("policy", prefix="/v1/policies")
MAX_RULES = 65_536


class CreatePolicyIn(In):
    """A document of rules."""

    name: str = Field(min_length=1, max_length=100)
    description: str = Field("", max_length=2000)
    policy_type: Literal["rbac", "abac", "budget"]
    rules_yaml: str = Field(max_length=MAX_RULES)
    priority: int = Field(100, ge=0, le=10_000, description="Higher is asked first; the role matrix stands at 0.")
    is_enabled: bool = True


class UpdatePolicyIn(PatchIn):
    """What may change of a policy; what is left out stays."""

    name: str = Field("", min_length=1, max_length=100)
    description: str = Field("", max_length=2000)
    rules_yaml: str = Field("", max_length=MAX_RULES)
    priority: int = Field(100, ge=0, le=10_000)
    is_enabled: bool = True


class PolicyOut(BaseModel):
    """A document of rules, as it was last saved."""

    id: UUID
    organization_id: UUID
    name: str
    description: str
    policy_type: str
    rules_yaml: str
    revision: int
    is_system: bool
    is_enabled: bool
    priority: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Policy) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class AssignPolicyIn(In):
    """Whom a policy is for."""

    assignee_type: Literal["team", "user"]
    assignee_id: UUID


class PolicyAssignmentOut(BaseModel):
    """A policy bound to a team or a user."""

    id: UUID
    policy_id: UUID
    assignee_type: str
    assignee_id: UUID
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, row: PolicyAssignment) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class PolicyAssignmentsOut(BaseModel):
    """Whom a policy is for; nobody listed means everyone."""

    items: list[PolicyAssignmentOut]
    next_cursor: str | None = None


POLICY_LIST = Listing(policies.POLICIES, PolicyOut)


@router.post("", permission="policy:create", status=201)
async def create_policy(uow: Uow, body: CreatePolicyIn, response: Response) -> PolicyOut:
    """Save rules; enabled ones hold everywhere within two seconds."""
    policy = await policies.create_policy(uow, **dict(body))
    response.headers["Location"] = f"/v1/policies/{policy.id}"
    response.headers["ETag"] = etag(policy.version)
    return PolicyOut.of(policy)


@router.get("", permission="policy:read", **POLICY_LIST.options)
async def list_policies(uow: Uow, query: Annotated[ListQuery, Depends(POLICY_LIST.query)]) -> Response:
    """The organization's policies."""
    return POLICY_LIST.answer(await policies.list_policies(uow, query))


@router.get("/count", permission="policy:read")
async def count_policies(uow: Uow, query: Annotated[ListQuery, Depends(POLICY_LIST.query)]) -> CountOut:
    """How many policies such a list would show."""
    return CountOut(count=await policies.count_policies(uow, query))


@router.get("/{policy_id}", permission="policy:read")
async def get_policy(uow: Uow, policy_id: UUID, response: Response) -> PolicyOut:
    """One policy."""
    policy = await policies.get_policy(uow, policy_id)
    response.headers["ETag"] = etag(policy.version)
    return PolicyOut.of(policy)


@router.patch("/{policy_id}", permission="policy:update")
async def update_policy(
    uow: Uow, policy_id: UUID, body: UpdatePolicyIn, version: ExpectedVersion, response: Response
) -> PolicyOut:
    """Change rules, priority or state."""
    policy = await policies.update_policy(uow, policy_id, expected_version=version, changes=body.given())
    response.headers["ETag"] = etag(policy.version)
    return PolicyOut.of(policy)


@router.delete("/{policy_id}", permission="policy:delete")
async def delete_policy(uow: Uow, policy_id: UUID) -> None:
    """Remove a policy, and its rules from force."""
    await policies.delete_policy(uow, policy_id)


@router.post("/{policy_id}/assignments", permission="policy:assign", status=201)
async def assign_policy(uow: Uow, policy_id: UUID, body: AssignPolicyIn) -> PolicyAssignmentOut:
    """Bind a policy to a team or a user."""
    assignment = await policies.assign_policy(
        uow, policy_id, assignee_type=body.assignee_type, assignee_id=body.assignee_id
    )
    return PolicyAssignmentOut.of(assignment)


@router.get("/{policy_id}/assignments", permission="policy:read")
async def list_policy_assignments(uow: Uow, policy_id: UUID) -> PolicyAssignmentsOut:
    """Whom a policy is for."""
    rows = await policies.list_policy_assignments(uow, policy_id)
    return PolicyAssignmentsOut(items=[PolicyAssignmentOut.of(row) for row in rows])


@router.delete("/{policy_id}/assignments/{assignment_id}", permission="policy:assign")
async def unassign_policy(uow: Uow, policy_id: UUID, assignment_id: UUID) -> None:
    """Remove a binding."""
    await policies.unassign_policy(uow, policy_id, assignment_id)
