"""Routes of orchestrations and their versions."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit, permit_for
from execution.api.agents import ApplyIn, SetCurrentVersionIn, Status, Text
from execution.tables.orchestrations import Orchestration, OrchestrationVersion
from execution.usecases import orchestration_files, orchestration_versions, orchestrations
from resources.bodies import Description, In, Name, Reference
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.versions import etag

router = Router("orchestration", prefix="/v1/orchestrations")


class AgentIdIn(In):
    """Which agent an alias stands for, and at which version."""

    id: UUID
    version: Annotated[str, Field(max_length=64)] = "current"


AgentIds = Annotated[dict[Annotated[str, Field(max_length=63)], AgentIdIn], Field(max_length=200)]


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
    status: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Orchestration) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class OrchestrationVersionOut(BaseModel):
    """One immutable revision of an orchestration."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    orchestration_id: UUID
    semver: str
    digest: str
    config_yaml: str
    config: dict[str, Any]
    change_summary: str
    created_by: str
    agent_ids: dict[str, AgentIdIn]
    is_current: bool
    created_at: datetime

    @classmethod
    def of(cls, row: OrchestrationVersion) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateOrchestrationIn(In):
    """A new orchestration; `workspace` is an id or a name, and may be left out where there is only one."""

    name: Name
    config_yaml: Text
    workspace: Reference | None = None
    description: Description = ""
    team_id: UUID | None = None
    agent_ids: AgentIds = {}
    status: Status = "active"


class UpdateOrchestrationIn(In):
    """A merge patch: what is left out stays."""

    name: Name = ""
    description: Description = ""
    team_id: UUID | None = None
    status: Status = "active"


class CreateOrchestrationVersionIn(In):
    """A new revision; without `semver` it gets the next patch number, without `agent_ids` it keeps the agents."""

    config_yaml: Text
    agent_ids: AgentIds | None = None
    change_summary: Description = ""
    semver: Annotated[str, Field(max_length=64)] | None = None


class AppliedOrchestrationOut(BaseModel):
    """What applying a file came to."""

    orchestration: OrchestrationOut
    changed: list[str] = Field(description="created, version, or the fields that changed; empty: nothing did.")


ORCHESTRATION_LIST = Listing(orchestrations.ORCHESTRATIONS, OrchestrationOut)
VERSION_LIST = Listing(orchestration_versions.ORCHESTRATION_VERSIONS, OrchestrationVersionOut)


def references_of(agent_ids: dict[str, AgentIdIn]) -> dict[str, dict[str, str]]:
    """The aliases as they are stored."""
    return {alias: {"id": str(agent.id), "version": agent.version} for alias, agent in agent_ids.items()}


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


@router.post("/{orchestration_id}/versions", permission="orchestration:update", status=201)
async def create_orchestration_version(
    uow: Uow, orchestration_id: UUID, body: CreateOrchestrationVersionIn
) -> OrchestrationVersionOut:
    """Save a new revision and make it current; the configuration it already has changes nothing."""
    version = await orchestration_versions.create_orchestration_version(
        uow,
        orchestration_id,
        config_yaml=body.config_yaml,
        agent_ids=None if body.agent_ids is None else references_of(body.agent_ids),
        change_summary=body.change_summary,
        semver=body.semver,
    )
    return OrchestrationVersionOut.of(version)


@router.get("/{orchestration_id}/versions", permission="orchestration:read", **VERSION_LIST.options)
async def list_orchestration_versions(
    uow: Uow, orchestration_id: UUID, query: Annotated[ListQuery, Depends(VERSION_LIST.query)]
) -> Response:
    """The revisions of an orchestration, the newest first."""
    return VERSION_LIST.answer(await orchestration_versions.list_orchestration_versions(uow, orchestration_id, query))


@router.get("/{orchestration_id}/versions/{semver}", permission="orchestration:read")
async def get_orchestration_version(uow: Uow, orchestration_id: UUID, semver: str) -> OrchestrationVersionOut:
    """One revision by its number, or `current`."""
    return OrchestrationVersionOut.of(
        await orchestration_versions.get_orchestration_version(uow, orchestration_id, semver)
    )


@router.put("/{orchestration_id}/current-version", permission="orchestration:update")
async def set_current_orchestration_version(
    uow: Uow, orchestration_id: UUID, body: SetCurrentVersionIn, version: ExpectedVersion
) -> OrchestrationOut:
    """Make an earlier revision the one that runs from now on; needs If-Match."""
    changed = await orchestration_versions.set_current_orchestration_version(
        uow, orchestration_id, semver=body.semver, expected_version=version
    )
    return OrchestrationOut.of(changed)
