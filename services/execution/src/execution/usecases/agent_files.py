"""Applying an agent's file: what it says becomes so, and applying it again changes nothing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from chassis.permits import Permit
from chassis.uow import UnitOfWork
from contracts.execution import AgentUpdated
from execution.domain.revisions import read_agent
from execution.tables.agents import Agent
from execution.usecases.agent_versions import add_version, current_version, highest_semver
from execution.usecases.agents import create_agent
from execution.usecases.workspaces import find_workspace
from resources.patches import apply_patch, told
from resources.upserts import Applied, require_update


async def apply_agent(uow: UnitOfWork, *, file: str, workspace: str | None, may_update: Permit) -> Applied[Agent]:
    """Make the agent that the file names be as it says: created, given a new version, or left as it is."""
    revision = read_agent(file)
    metadata = revision.require_metadata()
    place = await find_workspace(uow, workspace or metadata.workspace)
    statement = select(Agent).where(
        Agent.workspace_id == place.id, Agent.name == metadata.name, Agent.deleted_at.is_(None)
    )
    agent: Agent | None = await uow.first(statement.with_for_update())
    if agent is None:
        fields = {"description": metadata.description, "risk_level": metadata.risk_level or "low"}
        created = await create_agent(uow, config_yaml=file, workspace=place.id, name=metadata.name, fields=fields)
        return Applied(created, ["created"])
    require_update(may_update, agent)
    values: dict[str, Any] = {"description": metadata.description}
    if metadata.risk_level is not None:
        values["risk_level"] = metadata.risk_level
    changes = apply_patch(uow, agent, values)
    if changes:
        uow.emit(AgentUpdated.of(agent, changes=told(changes)))
    if (await current_version(uow, agent)).digest == revision.digest:
        return Applied(agent, sorted(changes))
    semver = revision.number_after(await highest_semver(uow, agent))
    await add_version(uow, agent, revision, semver=semver, change_summary="Applied from a file")
    return Applied(agent, [*sorted(changes), "version"])
