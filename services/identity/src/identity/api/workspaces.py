"""Routes of workspaces."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from identity.tables.workspaces import Workspace
from identity.usecases import workspaces
from identity.usecases.workspaces import WorkspaceStatus
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.patches import PatchIn
from resources.versions import etag

router = Router("workspace", prefix="/v1/workspaces")
EnvironmentType = Literal["development", "staging", "production", "sandbox"]
RetentionDays = Literal[30, 90, 365, 2555]


class WorkspaceLimitsIn(PatchIn):
    """How much may be made and run in a workspace; what is left out stays."""

    max_agents: int = Field(100, ge=0, le=100_000)
    max_concurrent_executions: int = Field(64, ge=1, le=100_000)
    status: WorkspaceStatus = Field(
        "active",
        description="draining: it takes no new runs; what has begun there goes on to its end.",
    )


class WorkspaceFieldsIn(WorkspaceLimitsIn):
    """What may be said of a workspace; what is left out is the default, or stays."""

    description: str = Field("", max_length=2000)
    gateway_id: UUID | None = None
    promotion_from: UUID | None = None
    requires_approval: bool = False
    required_approvers: list[Annotated[str, Field(max_length=100)]] = Field([], max_length=20)
    pii_allowed: bool = False
    encryption_required: bool = False
    retention_days: RetentionDays = 90


class CreateWorkspaceIn(WorkspaceFieldsIn):
    """A new environment."""

    name: str = Field(min_length=1, max_length=100)
    environment_type: EnvironmentType


class UpdateWorkspaceIn(WorkspaceFieldsIn):
    """Changes of an environment."""

    name: str = Field("", min_length=1, max_length=100)
    environment_type: EnvironmentType = "development"


class WorkspaceOut(BaseModel):
    """An environment of the organization."""

    id: UUID
    organization_id: UUID
    name: str
    environment_type: str
    description: str
    status: str
    gateway_id: UUID | None
    max_agents: int
    max_concurrent_executions: int
    promotion_from: UUID | None
    requires_approval: bool
    required_approvers: list[str]
    pii_allowed: bool
    encryption_required: bool
    retention_days: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Workspace) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


WORKSPACE_LIST = Listing(workspaces.WORKSPACES, WorkspaceOut)


@router.post("", permission="workspace:create", status=201)
async def create_workspace(uow: Uow, body: CreateWorkspaceIn, response: Response) -> WorkspaceOut:
    """Make an environment."""
    fields = {name: value for name, value in body.given().items() if name not in ("name", "environment_type")}
    workspace = await workspaces.create_workspace(
        uow, name=body.name, environment_type=body.environment_type, fields=fields
    )
    response.headers["ETag"] = etag(workspace.version)
    response.headers["Location"] = f"/v1/workspaces/{workspace.id}"
    return WorkspaceOut.of(workspace)


@router.get("", permission="workspace:read", **WORKSPACE_LIST.options)
async def list_workspaces(uow: Uow, query: Annotated[ListQuery, Depends(WORKSPACE_LIST.query)]) -> Response:
    """The organization's environments."""
    return WORKSPACE_LIST.answer(await workspaces.list_workspaces(uow, query))


@router.get("/count", permission="workspace:read")
async def count_workspaces(uow: Uow, query: Annotated[ListQuery, Depends(WORKSPACE_LIST.query)]) -> CountOut:
    """How many environments such a list would show."""
    return CountOut(count=await workspaces.count_workspaces(uow, query))


@router.get("/{workspace_id}", permission="workspace:read")
async def get_workspace(uow: Uow, workspace_id: UUID, response: Response) -> WorkspaceOut:
    """One environment."""
    workspace = await workspaces.get_workspace(uow, workspace_id)
    response.headers["ETag"] = etag(workspace.version)
    return WorkspaceOut.of(workspace)


@router.patch("/{workspace_id}", permission="workspace:update")
async def update_workspace(
    uow: Uow, workspace_id: UUID, body: UpdateWorkspaceIn, version: ExpectedVersion, response: Response
) -> WorkspaceOut:
    """Change an environment; its limits hold everywhere within two seconds."""
    row = await workspaces.update_workspace(uow, workspace_id, expected_version=version, changes=body.given())
    response.headers["ETag"] = etag(row.version)
    return WorkspaceOut.of(row)


@router.patch("/{workspace_id}/limits", permission="workspace:update_limits")
async def update_workspace_limits(
    uow: Uow, workspace_id: UUID, body: WorkspaceLimitsIn, version: ExpectedVersion, response: Response
) -> WorkspaceOut:
    """Change only how much may be made and run in an environment; `status: draining` lets nothing new start."""
    row = await workspaces.update_workspace_limits(uow, workspace_id, expected_version=version, changes=body.given())
    response.headers["ETag"] = etag(row.version)
    return WorkspaceOut.of(row)


@router.delete("/{workspace_id}", permission="workspace:delete")
async def delete_workspace(uow: Uow, workspace_id: UUID) -> None:
    """Remove an environment."""
    await workspaces.delete_workspace(uow, workspace_id)
