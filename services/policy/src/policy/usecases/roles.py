"""The role matrix: the system's own policy at priority 0, compiled into every service; shown here, changed nowhere."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from pdp.matrix import GRANTS, ORGANIZATION_ROLES


def list_roles(_: UnitOfWork) -> list[tuple[str, dict[str, str]]]:
    """Each role of an organization, strongest first, with its permissions and how it holds them."""
    return [
        (
            role,
            {permission: str(GRANTS[permission][role]) for permission in sorted(GRANTS) if role in GRANTS[permission]},
        )
        for role in ORGANIZATION_ROLES
    ]
