"""Applying an agent's file: what it says becomes so, and applying it again changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import select

from chassis.errors import ForbiddenError, InvalidError, NotFoundError
from chassis.permits import Permit
from chassis.uow import UnitOfWork
from contracts.execution import AgentUpdated
from execution.domain.definitions import Definition, parse_agent
from execution.domain.shapes import Metadata
from execution.tables.agents import Agent
from execution.tables.orchestrations import Orchestration
from execution.usecases.agent_facts import state_of, touch
from execution.usecases.agent_versions import add_version, current_version, highest_semver
from execution.usecases.agents import create_agent
from execution.usecases.revisions import change_row, wanted_semver
from execution.usecases.workspaces import find_workspace


class Applied(NamedTuple):
    """What applying a file came to."""

    row: Agent | Orchestration
    changed: list[str]
    """created, version, and the fields that are different now; empty when all was so already."""


async def apply_agent(uow: UnitOfWork, *, file: str, workspace: str | None, may_update: Permit) -> Applied:
    """Make the agent that the file names be as it says: created, given a new version, or left as it is."""
    definition = parse_agent(file)
    metadata = require_metadata(definition)
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
    changes = change_row(agent, values)
    if changes:
        touch(uow, agent)
        uow.emit(state_of(AgentUpdated, agent, changes))
    if (await current_version(uow, agent)).digest == definition.digest:
        return Applied(agent, sorted(changes))
    semver = wanted_semver(definition, await highest_semver(uow, agent))
    await add_version(uow, agent, definition, file, semver=semver, change_summary="Applied from a file")
    return Applied(agent, [*sorted(changes), "version"])


def require_metadata(definition: Definition[Any]) -> Metadata:
    """The file's metadata; InvalidError when it does not say what it is about."""
    metadata = definition.metadata
    if metadata is None:
        raise InvalidError("A file that is applied needs metadata with a name.", code="metadata_required")
    if metadata.team is not None:
        raise InvalidError("metadata.team is not supported yet: set team_id instead.", code="not_supported_yet")
    return metadata


def require_update(may_update: Permit, row: Agent | Orchestration) -> None:
    """ForbiddenError when the caller may make such things but not change this one."""
    attributes = {"created_by": row.created_by, "workspace_id": str(row.workspace_id), "name": row.name}
    try:
        may_update.check(row.__tablename__, str(row.id), attributes)
    except NotFoundError:
        raise ForbiddenError(f"Somebody else's {row.__tablename__} has this name.", code="not_yours") from None
