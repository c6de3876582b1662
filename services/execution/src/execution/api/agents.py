"""Routes of agents, one by one and many at once."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit, permit_for
from execution.api import ApplyIn, DefinitionStatus, DefinitionText, RollbackIn, SetCurrentVersionIn
from execution.tables.agents import Agent
from execution.usecases import agent_files, agent_versions, agents, rollbacks
from resources.bodies import Description, In, Name, Reference
from resources.bulk import BulkOut, DeletedOut, Items, bulk
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.versions import etag

router = Router("agent", prefix="/v1/agents")

Risk = Literal["low", "medium", "high", "critical"]


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
    previous_version: str | None
    rolled_back_from: str | None
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


class CreateAgentIn(In):
    """A new agent; `workspace` is an id or a name, and may be left out where there is only one."""

    name: Name
    config_yaml: DefinitionText
    workspace: Reference | None = None
    description: Description = ""
    team_id: UUID | None = None
    risk_level: Risk = "low"
    status: DefinitionStatus = "active"


class UpdateAgentIn(In):
    """A merge patch: what is left out stays."""

    name: Name = ""
    description: Description = ""
    team_id: UUID | None = None
    risk_level: Risk = "low"
    is_public: bool = False
    marketplace_listing_id: Annotated[str, Field(max_length=200)] | None = None
    status: DefinitionStatus = "active"


class AppliedAgentOut(BaseModel):
    """What applying a file, or promoting a version, came to."""

    agent: AgentOut
    changed: list[str] = Field(description="created, version, or the fields that changed; empty: nothing did.")


class CreateAgentsIn(In):
    """New agents."""

    items: Items[CreateAgentIn]


class UpdateAgentItemIn(UpdateAgentIn):
    """One merge patch: which agent, and which version of it is changed."""

    id: UUID
    version: int = Field(ge=1)


class UpdateAgentsIn(In):
    """Merge patches."""

    items: Items[UpdateAgentItemIn]


class DeleteAgentsIn(In):
    """The agents to retire."""

    items: Items[UUID]


AGENT_LIST = Listing(agents.AGENTS, AgentOut)


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


@router.put("/{agent_id}/current-version", permission="agent:update")
async def set_current_agent_version(
    uow: Uow, agent_id: UUID, body: SetCurrentVersionIn, version: ExpectedVersion
) -> AgentOut:
    """Make an earlier revision the one that runs from now on; needs If-Match."""
    changed = await agent_versions.set_current_agent_version(
        uow, agent_id, semver=body.semver, expected_version=version
    )
    return AgentOut.of(changed)


@router.post("/{agent_id}/rollback", permission="agent:update")
async def rollback_agent(uow: Uow, agent_id: UUID, body: RollbackIn | None = None) -> AgentOut:
    """Make an earlier revision current again, by default the one before; again changes nothing."""
    asked = body or RollbackIn()
    row = await rollbacks.rollback_agent(uow, agent_id, to=asked.to, reason=asked.reason)
    return AgentOut.of(row)


@router.post("/bulk-create", permission="agent:create")
async def create_agents(uow: Uow, body: CreateAgentsIn) -> BulkOut[AgentOut]:
    """Register many agents."""

    async def create(item: CreateAgentIn) -> AgentOut:
        fields = item.model_dump(include={"description", "team_id", "risk_level", "status"})
        created = await agents.create_agent(
            uow, config_yaml=item.config_yaml, workspace=item.workspace, name=item.name, fields=fields
        )
        return AgentOut.of(created)

    return BulkOut[AgentOut].of(await bulk(uow, body.items, create, operation="create_agents", status=201))


@router.post("/bulk-update", permission="agent:update")
async def update_agents(uow: Uow, body: UpdateAgentsIn) -> BulkOut[AgentOut]:
    """Change what is said about many agents."""

    async def update(item: UpdateAgentItemIn) -> AgentOut:
        values: dict[str, Any] = item.model_dump(exclude_unset=True, exclude={"id", "version"})
        return AgentOut.of(await agents.update_agent(uow, item.id, values, expected_version=item.version))

    return BulkOut[AgentOut].of(await bulk(uow, body.items, update, operation="update_agents"))


@router.post("/bulk-delete", permission="agent:delete")
async def delete_agents(uow: Uow, body: DeleteAgentsIn) -> BulkOut[DeletedOut]:
    """Retire many agents."""

    async def delete(agent_id: UUID) -> DeletedOut:
        await agents.delete_agent(uow, agent_id)
        return DeletedOut(id=agent_id)

    return BulkOut[DeletedOut].of(await bulk(uow, body.items, delete, operation="delete_agents"))
