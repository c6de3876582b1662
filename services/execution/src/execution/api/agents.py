"""Routes of agents and their versions."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit, permit_for
from execution.tables.agents import Agent, AgentVersion
from execution.usecases import agent_files, agent_versions, agents
from resources.bodies import Description, In, Name, Reference
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.versions import etag

router = Router("agent", prefix="/v1/agents")

Text = Annotated[str, Field(max_length=128 * 1024)]
Risk = Literal["low", "medium", "high", "critical"]
Status = Literal["draft", "active", "deprecated"]


class AgentOut(BaseModel):
    """An agent."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    team_id: UUID | None
    created_by: str
    name: str
    description: str
    agent_type: str
    config_yaml: str
    current_version: str
    risk_level: str
    is_public: bool
    marketplace_listing_id: str | None
    status: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Agent) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


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
    security_scan_results: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, row: AgentVersion) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateAgentIn(In):
    """A new agent; `workspace` is an id or a name, and may be left out where there is only one."""

    name: Name
    config_yaml: Text
    workspace: Reference | None = None
    description: Description = ""
    team_id: UUID | None = None
    risk_level: Risk = "low"
    status: Status = "active"


class UpdateAgentIn(In):
    """A merge patch: what is left out stays."""

    name: Name = ""
    description: Description = ""
    team_id: UUID | None = None
    risk_level: Risk = "low"
    is_public: bool = False
    marketplace_listing_id: Annotated[str, Field(max_length=200)] | None = None
    status: Status = "active"


class CreateAgentVersionIn(In):
    """A new revision; without `semver` it gets the next patch number."""

    config_yaml: Text
    change_summary: Description = ""
    semver: Annotated[str, Field(max_length=64)] | None = None


class SetCurrentVersionIn(In):
    """Which revision runs from now on."""

    semver: Annotated[str, Field(max_length=64)]


class ApplyIn(In):
    """A file with `metadata` beside the configuration; `workspace` comes before the one in the file."""

    file: Text
    workspace: Reference | None = None


class AppliedAgentOut(BaseModel):
    """What applying a file came to."""

    agent: AgentOut
    changed: list[str] = Field(description="created, version, or the fields that changed; empty: nothing did.")


AGENT_LIST = Listing(agents.AGENTS, AgentOut)
VERSION_LIST = Listing(agent_versions.AGENT_VERSIONS, AgentVersionOut)


@router.post("", permission="agent:create", status=201)
async def create_agent(request: Request, response: Response, body: CreateAgentIn) -> AgentOut:
    """Register an agent with its first version."""
    fields = body.model_dump(include={"description", "team_id", "risk_level", "status"})
    created = await in_unit(
        request,
        lambda uow: agents.create_agent(
            uow, config_yaml=body.config_yaml, workspace=body.workspace, name=body.name, fields=fields
        ),
    )
    response.headers["ETag"] = etag(created.version)
    response.headers["Location"] = f"/v1/agents/{created.id}"
    return AgentOut.of(created)


@router.post("/apply", permission="agent:create")
async def apply_agent(request: Request, body: ApplyIn) -> AppliedAgentOut:
    """Make an agent be as its file says; applying the same file again changes nothing."""
    may_update = await permit_for(request, "agent:update")
    applied = await in_unit(
        request,
        lambda uow: agent_files.apply_agent(uow, file=body.file, workspace=body.workspace, may_update=may_update),
    )
    return AppliedAgentOut(agent=AgentOut.model_validate(applied.row), changed=applied.changed)


@router.get("", permission="agent:read", **AGENT_LIST.options)
async def list_agents(uow: Uow, query: Annotated[ListQuery, Depends(AGENT_LIST.query)]) -> Response:
    """The organization's agents."""
    return AGENT_LIST.answer(await agents.list_agents(uow, query))


@router.get("/count", permission="agent:read")
async def count_agents(uow: Uow, query: Annotated[ListQuery, Depends(AGENT_LIST.query)]) -> CountOut:
    """How many agents such a list would show."""
    return CountOut(count=await agents.count_agents(uow, query))


@router.get("/{agent_id}", permission="agent:read")
async def get_agent(uow: Uow, response: Response, agent_id: UUID) -> AgentOut:
    """The agent."""
    found = await agents.get_agent(uow, agent_id)
    response.headers["ETag"] = etag(found.version)
    return AgentOut.of(found)


@router.patch("/{agent_id}", permission="agent:update")
async def update_agent(
    uow: Uow, response: Response, agent_id: UUID, body: UpdateAgentIn, version: ExpectedVersion
) -> AgentOut:
    """Change what is said about an agent; needs If-Match. What it does changes by a new version."""
    values = body.model_dump(exclude_unset=True)
    changed = await agents.update_agent(uow, agent_id, values, expected_version=version)
    response.headers["ETag"] = etag(changed.version)
    return AgentOut.of(changed)


@router.delete("/{agent_id}", permission="agent:delete")
async def delete_agent(uow: Uow, agent_id: UUID) -> None:
    """Retire an agent; its versions and runs stay."""
    await agents.delete_agent(uow, agent_id)


@router.post("/{agent_id}/restore", permission="agent:restore")
async def restore_agent(uow: Uow, agent_id: UUID) -> AgentOut:
    """Bring a retired agent back."""
    return AgentOut.of(await agents.restore_agent(uow, agent_id))


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


@router.put("/{agent_id}/current-version", permission="agent:update")
async def set_current_agent_version(
    uow: Uow, agent_id: UUID, body: SetCurrentVersionIn, version: ExpectedVersion
) -> AgentOut:
    """Make an earlier revision the one that runs from now on; needs If-Match."""
    changed = await agent_versions.set_current_agent_version(
        uow, agent_id, semver=body.semver, expected_version=version
    )
    return AgentOut.of(changed)
