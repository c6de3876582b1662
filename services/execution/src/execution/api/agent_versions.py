"""Routes of agents' versions."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from execution.api import DefinitionText, VersionNumber
from execution.tables.agents import AgentVersion
from execution.usecases import agent_versions
from resources.bodies import Description, In
from resources.http import Listing
from resources.listing import ListQuery

router = Router("agent", prefix="/v1/agents")


class FindingOut(BaseModel):
    """One thing a scan found; the text itself is never repeated."""

    code: str
    severity: str = Field(description="low, medium, high or critical; from high on a version does not run.")
    path: str
    message: str


class ScanOut(BaseModel):
    """What the scan of a version found when it was saved."""

    passed: bool | None = None
    findings: list[FindingOut] = []
    left_out: int = Field(0, description="Findings that are not shown: there were very many.")


class AgentVersionOut(BaseModel):
    """One immutable revision of an agent."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    agent_id: UUID
    semver: str
    digest: str
    config_yaml: str
    config: dict[str, Any]
    change_summary: str
    created_by: str
    is_current: bool
    security_scan_status: str
    security_scan_results: ScanOut
    created_at: datetime

    @classmethod
    def of(cls, row: AgentVersion) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateAgentVersionIn(In):
    """A new revision; without `semver` it gets the next patch number."""

    config_yaml: DefinitionText
    change_summary: Description = ""
    semver: VersionNumber | None = None


VERSION_LIST = Listing(agent_versions.AGENT_VERSIONS, AgentVersionOut)


@router.post("/{agent_id}/versions", permission="agent:update", status=201)
async def create_agent_version(uow: Uow, agent_id: UUID, body: CreateAgentVersionIn) -> AgentVersionOut:
    """Save a new revision and make it current; the configuration it already has changes nothing."""
    version = await agent_versions.create_agent_version(
        uow, agent_id, config_yaml=body.config_yaml, change_summary=body.change_summary, semver=body.semver
    )
    return AgentVersionOut.of(version)


@router.get("/{agent_id}/versions", permission="agent:read", **VERSION_LIST.options)
async def list_agent_versions(
    uow: Uow, agent_id: UUID, query: Annotated[ListQuery, Depends(VERSION_LIST.query)]
) -> Response:
    """The revisions of an agent, the newest first."""
    return VERSION_LIST.answer(await agent_versions.list_agent_versions(uow, agent_id, query))


@router.get("/{agent_id}/versions/{semver}", permission="agent:read")
async def get_agent_version(uow: Uow, agent_id: UUID, semver: str) -> AgentVersionOut:
    """One revision by its number, or `current`."""
    return AgentVersionOut.of(await agent_versions.get_agent_version(uow, agent_id, semver))
