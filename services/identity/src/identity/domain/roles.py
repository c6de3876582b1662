"""Who may give which role to whom, and what a key may be narrowed to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chassis.errors import ForbiddenError, InvalidError
from pdp.matrix import ORGANIZATION_ROLES, PERMISSIONS, PLATFORM_ROLES, allowed, expand

OWNER = "org_owner"
PLATFORM_OWNER = "platform_admin"
_STRENGTH: Final = {"no": 0, "own": 1, "yes": 2}


def roles_of(*, is_platform: bool) -> tuple[str, ...]:
    """The roles that exist in an organization: the platform's has its own."""
    return PLATFORM_ROLES if is_platform else ORGANIZATION_ROLES


def owner_role(*, is_platform: bool) -> str:
    """The role that may do everything there, and that somebody must always have."""
    return PLATFORM_OWNER if is_platform else OWNER


def require_role(role: str, *, is_platform: bool) -> None:
    """InvalidError for a role that does not exist in this organization."""
    known = roles_of(is_platform=is_platform)
    if role not in known:
        raise InvalidError(f"There is no role {role!r:.100} here: choose {', '.join(known)}.", code="unknown_role")


def require_may_touch(caller_roles: Iterable[str], *touched: str) -> None:
    """ForbiddenError when somebody would make, change or remove who may do more than he may himself.

    Only owners touch owners (code `owners_only`), whatever the organization's rules allow besides.
    """
    held = frozenset(caller_roles)
    for role in set(touched) - held:
        if role in (OWNER, PLATFORM_OWNER):
            raise ForbiddenError("Only an owner may make, change or remove owners.", code="owners_only")
        if not covers(held, role):
            raise ForbiddenError(f"The role {role} may do more than you may.", code="role_exceeds_yours")


def covers(held: Iterable[str], role: str) -> bool:
    """Whether somebody with these roles may do all that the role may."""
    roles = tuple(held)
    return all(
        _STRENGTH[allowed(roles, permission)] >= _STRENGTH[allowed((role,), permission)] for permission in PERMISSIONS
    )


def require_scopes(scopes: Iterable[str], roles: Iterable[str]) -> None:
    """A key never exceeds its owner: InvalidError for an unknown scope, ForbiddenError for one beyond the roles."""
    held = tuple(roles)
    for scope in scopes:
        named = expand(scope)
        if not named:
            raise InvalidError(f"There is no scope {scope!r:.100}.", code="unknown_scope")
        if all(allowed(held, permission) == "no" for permission in named):
            raise ForbiddenError(
                f"The key's owner may not {scope}: a key never exceeds its owner.", code="scope_exceeds"
            )
