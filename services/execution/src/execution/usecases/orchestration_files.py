"""Applying an orchestration's file: what it says becomes so, and applying it again changes nothing."""

from __future__ import annotations

from sqlalchemy import select

from chassis.permits import Permit
from chassis.uow import UnitOfWork
from contracts.execution import OrchestrationUpdated
from execution.domain.revisions import read_orchestration
from execution.tables.orchestrations import Orchestration
from execution.usecases.orchestration_references import resolve_references
from execution.usecases.orchestration_versions import add_version, current_version, highest_semver
from execution.usecases.orchestrations import create_orchestration
from execution.usecases.workspaces import find_workspace
from resources.patches import apply_patch, told
from resources.upserts import Applied, require_update


async def apply_orchestration(
    uow: UnitOfWork, *, file: str, workspace: str | None, may_update: Permit
) -> Applied[Orchestration]:
    """Make the orchestration that the file names be as it says: created, given a new version, or left as it is."""
    revision = read_orchestration(file, {})
    metadata = revision.require_metadata()
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
    changes = apply_patch(uow, row, {"description": metadata.description})
    if changes:
        uow.emit(OrchestrationUpdated.of(row, changes=told(changes)))
    resolved = await resolve_references(uow, place.id, revision, {})
    current = await current_version(uow, row)
    if current.digest == revision.digest and current.agent_ids == resolved:
        return Applied(row, sorted(changes))
    semver = revision.number_after(await highest_semver(uow, row))
    await add_version(uow, row, revision, agent_ids=resolved, semver=semver, change_summary="Applied from a file")
    return Applied(row, [*sorted(changes), "version"])
