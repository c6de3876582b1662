"""Workspaces: an organization's environments, with limits and data policies that the other services obey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import select

from chassis.errors import ConflictError, LimitExceededError, NotFoundError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.identity import WorkspaceCreated, WorkspaceDeleted, WorkspaceUpdated
from identity.domain.promotions import require_no_cycle
from identity.tables.workspaces import Workspace
from identity.usecases.own_organization import lock_organization
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch, touch
from resources.versions import require_version

WorkspaceStatus = Literal["active", "draining"]
"""Whether new runs may start: in one that is draining only what has begun goes on, to its end."""
MAX_WORKSPACES = 100
DEFAULT_NAME = "development"
DEFAULTS: Mapping[str, Any] = {
    "description": "",
    "status": "active",
    "max_agents": 100,
    "max_concurrent_executions": 64,
    "promotion_from": None,
    "requires_approval": False,
    "required_approvers": [],
    "pii_allowed": False,
    "encryption_required": False,
    "retention_days": 90,
}

WORKSPACES = Resource(
    Workspace,
    filters=("name", "environment_type", "status", "created_at"),
    sorts=("created_at", "name"),
    search=("name",),
    words={"status": get_args(WorkspaceStatus)},
)
list_workspaces = lister(WORKSPACES)
count_workspaces = counter(WORKSPACES)


async def create_default_workspace(uow: UnitOfWork) -> Workspace:
    """The workspace an organization begins with."""
    return await create_workspace(uow, name=DEFAULT_NAME, environment_type="development", fields={})


async def create_workspace(
    uow: UnitOfWork, *, name: str, environment_type: str, fields: Mapping[str, Any]
) -> Workspace:  # fmt: skip
    """Make an environment; what `fields` leaves out is as in `DEFAULTS`. LimitExceededError above `MAX_WORKSPACES`."""
    await lock_organization(uow)
    others = await _all(uow)
    if len(others) >= MAX_WORKSPACES:
        raise LimitExceededError(f"An organization may have {MAX_WORKSPACES} workspaces.", code="too_many_workspaces")
    workspace = Workspace(
        id=new_id(),
        organization_id=uow.organization_id,
        name=name,
        environment_type=environment_type,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
        **{**DEFAULTS, **fields},
    )
    _require_promotion(workspace, others)
    await uow.add(workspace, conflict=f"There is a workspace named {name!r} already.")
    uow.emit(WorkspaceCreated.of(workspace))
    return workspace


async def get_workspace(uow: UnitOfWork, workspace_id: UUID) -> Workspace:
    """One workspace."""
    return await uow.get(Workspace, workspace_id)


async def update_workspace(
    uow: UnitOfWork, workspace_id: UUID, *, expected_version: int | None, changes: Mapping[str, Any]
) -> Workspace:
    """Change a workspace; its limits hold everywhere within two seconds."""
    await lock_organization(uow)
    workspace = await uow.get(Workspace, workspace_id, lock=True)
    require_version(workspace.version, expected_version)
    if not apply_patch(uow, workspace, changes):
        return workspace
    _require_promotion(workspace, await _all(uow))
    await uow.add(workspace, conflict=f"There is a workspace named {workspace.name!r} already.")
    uow.emit(WorkspaceUpdated.of(workspace))
    return workspace


async def update_workspace_limits(
    uow: UnitOfWork, workspace_id: UUID, *, expected_version: int | None, changes: Mapping[str, Any]
) -> Workspace:
    """Change only how much may be made and run in a workspace, or drain it, as those who operate it may."""
    return await update_workspace(uow, workspace_id, expected_version=expected_version, changes=changes)


async def delete_workspace(uow: UnitOfWork, workspace_id: UUID) -> None:
    """Remove a workspace; ConflictError for the last one and for one that others are promoted from."""
    await lock_organization(uow)
    workspace = await uow.get(Workspace, workspace_id, lock=True)
    rest = [other for other in await _all(uow) if other.id != workspace_id]
    if not rest:
        raise ConflictError("An organization keeps at least one workspace.", code="last_workspace")
    if any(other.promotion_from == workspace_id for other in rest):
        raise ConflictError("Another workspace is promoted from this one.", code="promotion_source")
    await uow.delete(workspace)
    touch(uow, workspace)
    uow.emit(WorkspaceDeleted.of(workspace, status="deleted"))


def _require_promotion(workspace: Workspace, others: Sequence[Workspace]) -> None:
    if workspace.promotion_from is None:
        return
    sources = {other.id: other.promotion_from for other in others}
    if workspace.promotion_from not in sources:
        raise NotFoundError(f"There is no workspace with the id {workspace.promotion_from} to promote from.")
    require_no_cycle(workspace.id, workspace.promotion_from, sources)


async def _all(uow: UnitOfWork) -> Sequence[Workspace]:
    statement = select(Workspace).where(Workspace.organization_id == uow.organization_id).order_by(Workspace.id)
    found: Sequence[Workspace] = await uow.all(statement.limit(MAX_WORKSPACES))
    return found
