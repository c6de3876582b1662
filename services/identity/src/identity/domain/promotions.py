"""The order in which versions are promoted between workspaces has no cycle."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from chassis.errors import InvalidError


def require_no_cycle(workspace_id: UUID, promotion_from: UUID | None, sources: Mapping[UUID, UUID | None]) -> None:
    """InvalidError when promoting into the workspace would at last come from itself."""
    seen, at = {workspace_id}, promotion_from
    while at is not None:
        if at in seen:
            raise InvalidError("Promotion would go round in a circle.", code="promotion_cycle")
        seen.add(at)
        at = sources.get(at)
