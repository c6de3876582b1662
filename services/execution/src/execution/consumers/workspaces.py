"""Workspaces made, changed and deleted in identity."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import WorkspaceCreated, WorkspaceDeleted, WorkspaceRestated, WorkspaceState, WorkspaceUpdated
from execution.usecases import workspaces
from spine.facts import on


@on(WorkspaceCreated, WorkspaceUpdated, WorkspaceDeleted, WorkspaceRestated)
async def project_workspace(uow: UnitOfWork, fact: WorkspaceState) -> None:
    """What may be made and run in a workspace is what identity says."""
    status = "deleted" if isinstance(fact, WorkspaceDeleted) else fact.status
    await workspaces.project_workspace(uow, fact, status=status)
