"""Routes of orchestrations' versions."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict

from chassis.http import Router, Uow
from execution.api import AgentIdIn, AgentIds, DefinitionText, VersionNumber, references_of
from execution.tables.orchestrations import OrchestrationVersion
from execution.usecases import orchestration_versions
from resources.bodies import Description, In
from resources.http import Listing
from resources.listing import ListQuery

router = Router("orchestration", prefix="/v1/orchestrations")


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


class CreateOrchestrationVersionIn(In):
    """A new revision; without `semver` it gets the next patch number, without `agent_ids` it keeps the agents."""

    config_yaml: DefinitionText
    agent_ids: AgentIds | None = None
    change_summary: Description = ""
    semver: VersionNumber | None = None


VERSION_LIST = Listing(orchestration_versions.ORCHESTRATION_VERSIONS, OrchestrationVersionOut)


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
