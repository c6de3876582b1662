"""Applying an orchestration's file: what it says becomes so, and applying it again changes nothing."""

from __future__ import annotations

from sqlalchemy import select

from chassis.permits import Permit
from chassis.uow import UnitOfWork
from contracts.execution import OrchestrationUpdated
from execution.domain.definitions import parse_orchestration
from execution.tables.orchestrations import Orchestration
from execution.usecases.agent_files import Applied, require_metadata, require_update
from execution.usecases.orchestration_agents import resolve_agents
from execution.usecases.orchestration_facts import state_of, touch
from execution.usecases.orchestration_versions import add_version, current_version, highest_semver
from execution.usecases.orchestrations import create_orchestration
from execution.usecases.revisions import change_row, wanted_semver
from execution.usecases.workspaces import find_workspace


async def apply_orchestration(uow: UnitOfWork, *, file: str, workspace: str | None, may_update: Permit) -> Applied:
    """Make the orchestration that the file names be as it says: created, given a new version, or left as it is."""
    definition = parse_orchestration(file, aliases=())
    metadata = require_metadata(definition)
    place = await find_workspace(uow, workspace or metadata.workspace)
    statement = select(Orchestration).where(
        Orchestration.workspace_id == place.id,
        Orchestration.name == metadata.name,
        Orchestration.deleted_at.is_(None),
    )
    row: Orchestration | None = await uow.first(statement.with_for_update())
    if row is None:
        fields = {"description": metadata.description}
        created = await create_orchestration(
            uow, config_yaml=file, workspace=place.id, name=metadata.name, agent_ids={}, fields=fields
        )
        return Applied(created, ["created"])
    require_update(may_update, row)
    changes = change_row(row, {"description": metadata.description})
    if changes:
        touch(uow, row)
        uow.emit(state_of(OrchestrationUpdated, row, changes))
    resolved = await resolve_agents(uow, place.id, definition, {})
    current = await current_version(uow, row)
    if current.digest == definition.digest and current.agent_ids == resolved:
        return Applied(row, sorted(changes))
    semver = wanted_semver(definition, await highest_semver(uow, row))
    summary = "Applied from a file"
    await add_version(uow, row, definition, file, agent_ids=resolved, semver=semver, change_summary=summary)
    return Applied(row, [*sorted(changes), "version"])
