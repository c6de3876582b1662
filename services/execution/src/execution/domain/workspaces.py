"""What may be done in a workspace: in one that drains only what has begun goes on."""

from __future__ import annotations

from enum import StrEnum

from chassis.errors import ConflictError


class WorkspaceStatus(StrEnum):
    """As identity has it."""

    ACTIVE = "active"
    DRAINING = "draining"
    DELETED = "deleted"


STANDING = (WorkspaceStatus.ACTIVE, WorkspaceStatus.DRAINING)
"""In these something may be made, changed and read."""


def require_taking_runs(name: str, status: str) -> None:
    """ConflictError `workspace_draining` where nothing new may be begun."""
    if status == WorkspaceStatus.DRAINING:
        raise ConflictError(
            f"The workspace {name!r} is draining: it takes no new runs until its status is active again.",
            code="workspace_draining",
        )
