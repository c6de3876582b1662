"""Workspaces made, changed and deleted in identity."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import WorkspaceCreated, WorkspaceDeleted, WorkspaceRestated, WorkspaceState, WorkspaceUpdated
from execution.domain.kills import KillScope
from execution.usecases import kill_switches, workspaces
from spine.facts import on


@on(WorkspaceCreated, WorkspaceUpdated, WorkspaceDeleted, WorkspaceRestated)
async def project_workspace(uow: UnitOfWork, fact: WorkspaceState) -> None:
    """What may be made and run in a workspace is what identity says."""
    status = "deleted" if isinstance(fact, WorkspaceDeleted) else fact.status
    await workspaces.project_workspace(uow, fact, status=status)


@on(WorkspaceDeleted)
async def stop_runs_of_workspace(uow: UnitOfWork, fact: WorkspaceDeleted) -> None:
    """Nothing of a deleted workspace is let in any more: what waits there or runs is ended."""
    reason = "The workspace was deleted."
    await kill_switches.engage_kill_switch(
        uow, scope=KillScope.WORKSPACE, target_id=fact.workspace_id, reason=reason
    )  # fmt: skip
