"""Routes that make, change and retire many agents at once: a result for each, the others stay."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from execution.api.agents import AgentOut, CreateAgentIn, UpdateAgentIn
from execution.usecases import agents
from resources.bodies import In
from resources.bulk import BulkOut, Items, bulk

router = Router("agent", prefix="/v1/agents")


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


class DeletedOut(BaseModel):
    """What was retired."""

    id: UUID


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
