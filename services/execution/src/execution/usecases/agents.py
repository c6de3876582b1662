"""Agents: registered, read, changed, retired. What they do is in their versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import AgentCreated, AgentDeleted, AgentUpdated
from execution.domain.revisions import Revision, read_agent
from execution.tables.agents import Agent, AgentVersion
from execution.usecases.agent_versions import save_version
from execution.usecases.subscriptions import count_agent
from execution.usecases.workspaces import find_workspace, require_workspace
from resources.listing import Resource, counter, lister
from resources.lives import get_living, restore, retire
from resources.patches import apply_patch, told
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
    revision = read_agent(config_yaml)
    place = await find_workspace(uow, workspace)
    number = revision.first_number()
    agent, _ = await add_agent(uow, place.id, name, revision, fields, semver=number, change_summary="First version")
    return agent


async def add_agent(
    uow: UnitOfWork,
    workspace_id: UUID,
    name: str,
    revision: Revision,
    fields: Mapping[str, Any],
    *,
    semver: str,
    change_summary: str,
    promoted_from: UUID | None = None,
) -> tuple[Agent, AgentVersion]:
    """Make an agent with one version in a workspace that has room for it, and say so."""
    await count_agent(uow, await require_workspace(uow, workspace_id))
    agent = _new_agent(uow, workspace_id, name, revision, fields, semver=semver)
    await uow.add(agent, conflict=TAKEN)
    version = await save_version(uow, agent, revision, change_summary=change_summary, promoted_from=promoted_from)
    uow.emit(AgentCreated.of(agent))
    return agent, version


async def get_agent(uow: UnitOfWork, agent_id: UUID) -> Agent:
    """The agent; NotFoundError for a deleted one."""
    return await get_living(uow, Agent, agent_id)


async def update_agent(
    uow: UnitOfWork, agent_id: UUID, values: Mapping[str, Any], *, expected_version: int | None
) -> Agent:
    """Change what is said about an agent; what it does changes by a new version only."""
    agent = await get_living(uow, Agent, agent_id, lock=True)
    require_version(agent.version, expected_version)
    changes = apply_patch(uow, agent, values)
    if "name" in changes:
        await uow.add(agent, conflict=TAKEN)
    if changes:
        uow.emit(AgentUpdated.of(agent, changes=told(changes)))
    return agent


async def delete_agent(uow: UnitOfWork, agent_id: UUID) -> None:
    """Retire an agent: it can't be run any more, its versions and runs stay."""
    agent = await get_living(uow, Agent, agent_id, lock=True)
    retire(uow, agent)
    uow.emit(AgentDeleted.of(agent))


async def restore_agent(uow: UnitOfWork, agent_id: UUID) -> Agent:
    """Bring a retired agent back; restoring a living one changes nothing."""
    agent = await uow.get(Agent, agent_id, lock=True)
    if agent.deleted_at is None:
        return agent
    await count_agent(uow, await require_workspace(uow, agent.workspace_id))
    await restore(uow, agent, conflict=TAKEN)
    uow.emit(AgentUpdated.of(agent, changes={"deleted_at": [True, None]}))
    return agent


def _new_agent(
    uow: UnitOfWork, workspace_id: UUID, name: str, revision: Revision, fields: Mapping[str, Any], *, semver: str
) -> Agent:
    return Agent(
        id=new_id(),
        organization_id=uow.organization_id,
        workspace_id=workspace_id,
        created_by=uow.caller.owner_id,
        name=name,
        description=fields.get("description", ""),
        team_id=fields.get("team_id"),
        agent_type=revision.kind,
        config_yaml=revision.text,
        current_version=semver,
        current_version_id=new_id(),
        risk_level=fields.get("risk_level", "low"),
        is_public=fields.get("is_public", False),
        status=fields.get("status", "active"),
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
