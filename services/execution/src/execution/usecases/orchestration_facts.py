"""What every change of an orchestration has in common: its version, and the fact that tells of it."""

from __future__ import annotations

from typing import Any

from chassis.errors import NotFoundError
from chassis.uow import UnitOfWork
from contracts.execution import OrchestrationState
from execution.tables.orchestrations import Orchestration


def living(orchestration: Orchestration) -> Orchestration:
    """The orchestration, unless it is deleted: NotFoundError."""
    if orchestration.deleted_at is not None:
        raise NotFoundError("There is no orchestration with this id.")
    return orchestration


def touch(uow: UnitOfWork, orchestration: Orchestration) -> None:
    """Note that the orchestration changed now."""
    orchestration.version += 1
    orchestration.updated_at = uow.now


def state_of(
    kind: type[OrchestrationState], orchestration: Orchestration, changes: dict[str, list[Any]] | None = None
) -> OrchestrationState:  # fmt: skip
    """The fact of this kind about an orchestration as it is now."""
    return kind(
        orchestration_id=orchestration.id,
        workspace_id=orchestration.workspace_id,
        version=orchestration.version,
        name=orchestration.name,
        pattern=orchestration.pattern,
        status=orchestration.status,
        current_version=orchestration.current_version,
        changes=changes or {},
    )
