"""Routes of orchestrations, one by one and many at once."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit, permit_for
from execution.api import (
    AgentIdIn,
    AgentIds,
    ApplyIn,
    DefinitionStatus,
    DefinitionText,
    RollbackIn,
    SetCurrentVersionIn,
    references_of,
)
from execution.tables.orchestrations import Orchestration
from execution.usecases import orchestration_files, orchestration_versions, orchestrations, rollbacks
from resources.bodies import Description, In, Name, Reference
from resources.bulk import BulkOut, DeletedOut, Items, bulk
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.versions import etag

router = Router("orchestration", prefix="/v1/orchestrations")


class OrchestrationOut(BaseModel):
    """An orchestration."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    team_id: UUID | None
    created_by: str
    name: str
    description: str
    pattern: str
    config_yaml: str
    agent_ids: dict[str, AgentIdIn]
    current_version: str
    previous_version: str | None
    rolled_back_from: str | None
    status: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Orchestration) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateOrchestrationIn(In):
    """A new orchestration; `workspace` is an id or a name, and may be left out where there is only one."""

    name: Name
    config_yaml: DefinitionText
    workspace: Reference | None = None
    description: Description = ""
    team_id: UUID | None = None
    agent_ids: AgentIds = {}
    status: DefinitionStatus = "active"


class UpdateOrchestrationIn(In):
    """A merge patch: what is left out stays."""

    name: Name = ""
    description: Description = ""
    team_id: UUID | None = None
    status: DefinitionStatus = "active"


class AppliedOrchestrationOut(BaseModel):
    """What applying a file came to."""

    orchestration: OrchestrationOut
    changed: list[str] = Field(description="created, version, or the fields that changed; empty: nothing did.")


class CreateOrchestrationsIn(In):
    """New orchestrations."""

    items: Items[CreateOrchestrationIn]


class UpdateOrchestrationItemIn(UpdateOrchestrationIn):
    """One merge patch: which orchestration, and which version of it is changed."""

    id: UUID
    version: int = Field(ge=1)


class UpdateOrchestrationsIn(In):
    """Merge patches."""

    items: Items[UpdateOrchestrationItemIn]


class DeleteOrchestrationsIn(In):
    """The orchestrations to retire."""

    items: Items[UUID]


ORCHESTRATION_LIST = Listing(orchestrations.ORCHESTRATIONS, OrchestrationOut)


@router.post("", permission="orchestration:create", status=201)
async def create_orchestration(request: Request, response: Response, body: CreateOrchestrationIn) -> OrchestrationOut:
    """Register an orchestration with its first version."""
    fields = body.model_dump(include={"description", "team_id", "status"})
    agent_ids = references_of(body.agent_ids)
    created = await in_unit(
        request,
        lambda uow: orchestrations.create_orchestration(
            uow,
            config_yaml=body.config_yaml,
            workspace=body.workspace,
            name=body.name,
            agent_ids=agent_ids,
            fields=fields,
        ),
    )
    response.headers["ETag"] = etag(created.version)
    response.headers["Location"] = f"/v1/orchestrations/{created.id}"
    return OrchestrationOut.of(created)


@router.post("/apply", permission="orchestration:create")
async def apply_orchestration(request: Request, body: ApplyIn) -> AppliedOrchestrationOut:
    """Make an orchestration be as its file says; applying the same file again changes nothing."""
    may_update = await permit_for(request, "orchestration:update")
    applied = await in_unit(
        request,
        lambda uow: orchestration_files.apply_orchestration(
            uow, file=body.file, workspace=body.workspace, may_update=may_update
        ),
    )
    return AppliedOrchestrationOut(orchestration=OrchestrationOut.model_validate(applied.row), changed=applied.changed)


@router.get("", permission="orchestration:read", **ORCHESTRATION_LIST.options)
async def list_orchestrations(uow: Uow, query: Annotated[ListQuery, Depends(ORCHESTRATION_LIST.query)]) -> Response:
    """The organization's orchestrations."""
    return ORCHESTRATION_LIST.answer(await orchestrations.list_orchestrations(uow, query))


@router.get("/count", permission="orchestration:read")
async def count_orchestrations(uow: Uow, query: Annotated[ListQuery, Depends(ORCHESTRATION_LIST.query)]) -> CountOut:
    """How many orchestrations such a list would show."""
    return CountOut(count=await orchestrations.count_orchestrations(uow, query))


@router.get("/{orchestration_id}", permission="orchestration:read")
async def get_orchestration(uow: Uow, response: Response, orchestration_id: UUID) -> OrchestrationOut:
    """The orchestration."""
    found = await orchestrations.get_orchestration(uow, orchestration_id)
    response.headers["ETag"] = etag(found.version)
    return OrchestrationOut.of(found)


@router.patch("/{orchestration_id}", permission="orchestration:update")
async def update_orchestration(
    uow: Uow, response: Response, orchestration_id: UUID, body: UpdateOrchestrationIn, version: ExpectedVersion
) -> OrchestrationOut:
    """Change what is said about an orchestration; needs If-Match. What it does changes by a new version."""
    values = body.model_dump(exclude_unset=True)
    changed = await orchestrations.update_orchestration(uow, orchestration_id, values, expected_version=version)
    response.headers["ETag"] = etag(changed.version)
    return OrchestrationOut.of(changed)


@router.delete("/{orchestration_id}", permission="orchestration:delete")
async def delete_orchestration(uow: Uow, orchestration_id: UUID) -> None:
    """Retire an orchestration; its versions and runs stay."""
    await orchestrations.delete_orchestration(uow, orchestration_id)


@router.post("/{orchestration_id}/restore", permission="orchestration:restore")
async def restore_orchestration(uow: Uow, orchestration_id: UUID) -> OrchestrationOut:
    """Bring a retired orchestration back."""
    return OrchestrationOut.of(await orchestrations.restore_orchestration(uow, orchestration_id))


@router.put("/{orchestration_id}/current-version", permission="orchestration:update")
async def set_current_orchestration_version(
    uow: Uow, orchestration_id: UUID, body: SetCurrentVersionIn, version: ExpectedVersion
) -> OrchestrationOut:
    """Make an earlier revision the one that runs from now on; needs If-Match."""
    changed = await orchestration_versions.set_current_orchestration_version(
        uow, orchestration_id, semver=body.semver, expected_version=version
    )
    return OrchestrationOut.of(changed)


@router.post("/{orchestration_id}/rollback", permission="orchestration:update")
async def rollback_orchestration(uow: Uow, orchestration_id: UUID, body: RollbackIn | None = None) -> OrchestrationOut:
    """Make an earlier revision current again, by default the one before; again changes nothing."""
    asked = body or RollbackIn()
    row = await rollbacks.rollback_orchestration(uow, orchestration_id, to=asked.to, reason=asked.reason)
    return OrchestrationOut.of(row)


@router.post("/bulk-create", permission="orchestration:create")
async def create_orchestrations(uow: Uow, body: CreateOrchestrationsIn) -> BulkOut[OrchestrationOut]:
    """Register many orchestrations."""

    async def create(item: CreateOrchestrationIn) -> OrchestrationOut:
        fields = item.model_dump(include={"description", "team_id", "status"})
        created = await orchestrations.create_orchestration(
            uow,
            config_yaml=item.config_yaml,
            workspace=item.workspace,
            name=item.name,
            agent_ids=references_of(item.agent_ids),
            fields=fields,
        )
        return OrchestrationOut.of(created)

    return BulkOut[OrchestrationOut].of(
        await bulk(uow, body.items, create, operation="create_orchestrations", status=201)
    )


@router.post("/bulk-update", permission="orchestration:update")
async def update_orchestrations(uow: Uow, body: UpdateOrchestrationsIn) -> BulkOut[OrchestrationOut]:
    """Change what is said about many orchestrations."""

    async def update(item: UpdateOrchestrationItemIn) -> OrchestrationOut:
        values: dict[str, Any] = item.model_dump(exclude_unset=True, exclude={"id", "version"})
        return OrchestrationOut.of(
            await orchestrations.update_orchestration(uow, item.id, values, expected_version=item.version)
        )

    return BulkOut[OrchestrationOut].of(await bulk(uow, body.items, update, operation="update_orchestrations"))


@router.post("/bulk-delete", permission="orchestration:delete")
async def delete_orchestrations(uow: Uow, body: DeleteOrchestrationsIn) -> BulkOut[DeletedOut]:
    """Retire many orchestrations."""

    async def delete(orchestration_id: UUID) -> DeletedOut:
        await orchestrations.delete_orchestration(uow, orchestration_id)
        return DeletedOut(id=orchestration_id)

    return BulkOut[DeletedOut].of(await bulk(uow, body.items, delete, operation="delete_orchestrations"))
