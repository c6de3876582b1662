"""What may be begun in a workspace."""

from __future__ import annotations

from enum import StrEnum


class WorkspaceStatus(StrEnum):
    """Whether new runs may start: in one that is draining only what has begun goes on, to its end."""

    ACTIVE = "active"
    DRAINING = "draining"
