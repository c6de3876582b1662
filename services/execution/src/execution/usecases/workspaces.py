"""Workspaces here are a projection of identity's: what may be made and run in each."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from chassis.errors import ConflictError, InvalidError, NotFoundError, not_yet_known
from chassis.ids import id_age_seconds
from chassis.uow import UnitOfWork
from contracts.identity import WorkspaceState
from execution.tables.runs import RETENTION_CLASSES
from execution.tables.workspaces import Workspace
from spine.facts import project

YOUNG_SECONDS = 10
STANDING = ("active", "draining")
"""In these something may be made, changed and read."""
KEPT = {
    "name", "environment_type", "gateway_id", "max_agents", "max_concurrent_executions", "promotion_from",
    "requires_approval", "required_approvers", "pii_allowed", "encryption_required", "retention_days",
}  # fmt: skip
_STANDS = Workspace.status.in_(STANDING)


async def project_workspace(uow: UnitOfWork, fact: WorkspaceState, *, status: str) -> None:
    """Remember a workspace as identity has it now."""
    values = fact.model_dump(include=KEPT)
    stamps = {"organization_id": uow.organization_id, "created_at": uow.now, "updated_at": uow.now}
    await project(uow, Workspace, {"id": fact.workspace_id}, fact.version, {**values, **stamps, "status": status})


async def find_workspace(uow: UnitOfWork, reference: str | UUID | None) -> Workspace:
    """The workspace with this id or name; without either, the organization's only one. One that drains is there, too.

    NotFoundError for an unknown one; ConflictError `not_yet_known` when it is so young that its fact may be on its way.
    """
    if reference is None:
        return await _only_workspace(uow)
    wanted = as_id(reference)
    condition = Workspace.id == wanted if wanted else Workspace.name == reference
    found: Workspace | None = await uow.first(select(Workspace).where(condition, _STANDS).limit(1))
    if found is not None:
        return found
    if wanted and id_age_seconds(wanted) < YOUNG_SECONDS:
        raise not_yet_known("workspace")
    raise NotFoundError(f"There is no workspace {reference!s:.100}.")


async def require_workspace(uow: UnitOfWork, workspace_id: UUID) -> Workspace:
    """The workspace something stands in; ConflictError when it is gone."""
    found = await uow.find(Workspace, workspace_id)
    if found is None or found.status not in STANDING:
        raise ConflictError("The workspace of this is gone: nothing may be made or run in it.", code="workspace_gone")
    return found


def require_taking_runs(workspace: Workspace) -> None:
    """ConflictError `workspace_draining` where nothing new may be begun."""
    if workspace.status == "draining":
        raise ConflictError(
            f"The workspace {workspace.name!r} is draining: it takes no new runs until its status is active again.",
            code="workspace_draining",
        )


def as_id(reference: str | UUID) -> UUID | None:
    """The reference as an id, or None when it is a name."""
    if isinstance(reference, UUID):
        return reference
    try:
        return UUID(reference)
    except ValueError:
        return None


def retention_class(days: int) -> int:
    """The class whose rows are kept at least that long."""
    return next((kept for kept in RETENTION_CLASSES if kept >= days), RETENTION_CLASSES[-1])


async def _only_workspace(uow: UnitOfWork) -> Workspace:
    found = await uow.all(select(Workspace).where(_STANDS).limit(2))
    if len(found) == 1:
        only: Workspace = found[0]
        return only
    if not found:
        raise not_yet_known("workspace")
    raise InvalidError("Say in which workspace: this organization has several.", code="workspace_required")
