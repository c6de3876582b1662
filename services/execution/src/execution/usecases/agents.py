"""Agents: registered, read, changed, retired. What they do is in their versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import AgentCreated, AgentDeleted, AgentUpdated
from execution.domain.definitions import parse_agent
from execution.domain.versions import next_version
from execution.tables.agents import Agent
from execution.tables.workspaces import Workspace
from execution.usecases.agent_facts import living, state_of, touch
from execution.usecases.agent_versions import save_version
from execution.usecases.revisions import change_row
from execution.usecases.subscriptions import count_agent
from execution.usecases.workspaces import find_workspace, require_active
from resources.listing import Resource, counter, lister
from resources.versions import require_version

AGENTS = Resource(
    Agent,
    filters=(
        "id",
        "name",
        "workspace_id",
        "team_id",
        "status",
        "created_by",
        "created_at",
        "updated_at",
        "agent_type",
        "risk_level",
        "is_public",
    ),
    sorts=("created_at", "updated_at", "name"),
    search=("name", "description"),
    retired="deleted_at",
)
list_agents = lister(AGENTS)
count_agents = counter(AGENTS)
TAKEN = "An agent of this name is already in this workspace."


async def create_agent(
    uow: UnitOfWork, *, config_yaml: str, workspace: str | UUID | None, name: str, fields: Mapping[str, Any]
) -> Agent:
    """Register an agent with its first version.

    `fields` are description, team_id, risk_level and status, where given. InvalidError with every problem of the
    configuration, ConflictError when the name is taken, LimitExceededError at the plan's or workspace's number.
    """
    definition = parse_agent(config_yaml)
    place = await find_workspace(uow, workspace)
    await count_agent(uow, place)
    first = next_version(None, definition.metadata.version if definition.metadata else None)
    agent = _new_agent(uow, place, name, definition.spec.kind, config_yaml, first, fields)
    await uow.add(agent, conflict=TAKEN)
    await save_version(uow, agent, definition, config_yaml, semver=first, change_summary="First version")
    uow.emit(state_of(AgentCreated, agent))
    return agent


async def get_agent(uow: UnitOfWork, agent_id: UUID) -> Agent:
    """The agent; NotFoundError for a deleted one."""
    return living(await uow.get(Agent, agent_id))


async def update_agent(
    uow: UnitOfWork, agent_id: UUID, values: Mapping[str, Any], *, expected_version: int | None
) -> Agent:
    """Change what is said about an agent; what it does changes by a new version only."""
    agent = living(await uow.get(Agent, agent_id, lock=True))
    require_version(agent.version, expected_version)
    changes = change_row(agent, values)
    if not changes:
        return agent
    touch(uow, agent)
    if "name" in changes:
        await uow.add(agent, conflict=TAKEN)
    uow.emit(state_of(AgentUpdated, agent, changes))
    return agent


async def delete_agent(uow: UnitOfWork, agent_id: UUID) -> None:
    """Retire an agent: it can't be run any more, its versions and runs stay."""
    agent = living(await uow.get(Agent, agent_id, lock=True))
    agent.deleted_at = uow.now
    touch(uow, agent)
    uow.emit(state_of(AgentDeleted, agent))


async def restore_agent(uow: UnitOfWork, agent_id: UUID) -> Agent:
    """Bring a retired agent back; restoring a living one changes nothing."""
    agent = await uow.get(Agent, agent_id, lock=True)
    if agent.deleted_at is None:
        return agent
    await count_agent(uow, await require_active(uow, agent.workspace_id))
    agent.deleted_at = None
    touch(uow, agent)
    await uow.add(agent, conflict=TAKEN)
    uow.emit(state_of(AgentUpdated, agent, {"deleted_at": [True, None]}))
    return agent


def _new_agent(  # noqa: PLR0917
    uow: UnitOfWork, place: Workspace, name: str, kind: str, config_yaml: str, semver: str, fields: Mapping[str, Any]
) -> Agent:
    return Agent(
        id=new_id(),
        organization_id=uow.organization_id,
        workspace_id=place.id,
        created_by=uow.caller.owner_id,
        name=name,
        description=fields.get("description", ""),
        team_id=fields.get("team_id"),
        agent_type=kind,
        config_yaml=config_yaml,
        current_version=semver,
        current_version_id=new_id(),
        risk_level=fields.get("risk_level", "low"),
        is_public=fields.get("is_public", False),
        status=fields.get("status", "active"),
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
