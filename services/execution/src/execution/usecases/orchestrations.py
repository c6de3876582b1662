"""Orchestrations: registered, read, changed, retired. What they do is in their versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import OrchestrationCreated, OrchestrationDeleted, OrchestrationUpdated
from execution.domain.revisions import read_orchestration
from execution.tables.orchestrations import Orchestration
from execution.usecases.orchestration_references import AgentIds, resolve_references
from execution.usecases.orchestration_versions import save_version
from execution.usecases.workspaces import find_workspace, require_workspace
from resources.listing import Resource, counter, lister
from resources.lives import get_living, restore, retire
from resources.patches import apply_patch, told
from resources.versions import require_version

ORCHESTRATIONS = Resource(
    Orchestration,
    filters=("id", "name", "workspace_id", "team_id", "status", "created_by", "created_at", "updated_at", "pattern"),
    sorts=("created_at", "updated_at", "name"),
    search=("name", "description"),
    retired="deleted_at",
)
list_orchestrations = lister(ORCHESTRATIONS)
count_orchestrations = counter(ORCHESTRATIONS)
TAKEN = "An orchestration of this name is already in this workspace."


async def create_orchestration(
    uow: UnitOfWork,
    *,
    config_yaml: str,
    workspace: str | UUID | None,
    name: str,
    agent_ids: AgentIds,
    fields: Mapping[str, Any],
) -> Orchestration:
    """Register an orchestration with its first version.

    `agent_ids` say what each alias stands for, `{alias: {id, version}}`; the text's own `agents` may name them instead.
    `fields` are description, team_id and status, where given. InvalidError with every problem of the configuration,
    ConflictError when the name is taken.
    """
    revision = read_orchestration(config_yaml, agent_ids or None)
    place = await find_workspace(uow, workspace)
    resolved = await resolve_references(uow, place.id, revision, agent_ids)
    orchestration = Orchestration(
        id=new_id(),
        organization_id=uow.organization_id,
        workspace_id=place.id,
        created_by=uow.caller.owner_id,
        name=name,
        description=fields.get("description", ""),
        team_id=fields.get("team_id"),
        pattern=revision.kind,
        config_yaml=revision.text,
        agent_ids=resolved,
        current_version=revision.first_number(),
        current_version_id=new_id(),
        status=fields.get("status", "active"),
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(orchestration, conflict=TAKEN)
    await save_version(uow, orchestration, revision, change_summary="First version")
    uow.emit(OrchestrationCreated.of(orchestration))
    return orchestration


async def get_orchestration(uow: UnitOfWork, orchestration_id: UUID) -> Orchestration:
    """The orchestration; NotFoundError for a deleted one."""
    return await get_living(uow, Orchestration, orchestration_id)


async def update_orchestration(
    uow: UnitOfWork, orchestration_id: UUID, values: Mapping[str, Any], *, expected_version: int | None
) -> Orchestration:
    """Change what is said about an orchestration; what it does changes by a new version only."""
    orchestration = await get_living(uow, Orchestration, orchestration_id, lock=True)
    require_version(orchestration.version, expected_version)
    changes = apply_patch(uow, orchestration, values)
    if "name" in changes:
        await uow.add(orchestration, conflict=TAKEN)
    if changes:
        uow.emit(OrchestrationUpdated.of(orchestration, changes=told(changes)))
    return orchestration


async def delete_orchestration(uow: UnitOfWork, orchestration_id: UUID) -> None:
    """Retire an orchestration: it can't be run any more, its versions and runs stay."""
    orchestration = await get_living(uow, Orchestration, orchestration_id, lock=True)
    retire(uow, orchestration)
    uow.emit(OrchestrationDeleted.of(orchestration))


async def restore_orchestration(uow: UnitOfWork, orchestration_id: UUID) -> Orchestration:
    """Bring a retired orchestration back; restoring a living one changes nothing."""
    orchestration = await uow.get(Orchestration, orchestration_id, lock=True)
    if orchestration.deleted_at is None:
        return orchestration
    await require_workspace(uow, orchestration.workspace_id)
    await restore(uow, orchestration, conflict=TAKEN)
    uow.emit(OrchestrationUpdated.of(orchestration, changes={"deleted_at": [True, None]}))
    return orchestration
