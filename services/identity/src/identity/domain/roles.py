"""Who may give which role to whom, and what a key may be narrowed to."""

from __future__ import annotations

from collections.abc import Iterable

from chassis.errors import ForbiddenError, InvalidError
from pdp.matrix import ORGANIZATION_ROLES, PERMISSIONS, PLATFORM_ROLES, allowed

OWNER = "org_owner"
PLATFORM_OWNER = "platform_admin"


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
        raise InvalidError(f"There is no role {role!r} here: choose {', '.join(known)}.", code="unknown_role")


def require_may_touch(caller_roles: Iterable[str], *touched: str) -> None:
    """ForbiddenError when somebody who is no owner would make, change or remove one."""
    if OWNER in touched and OWNER not in caller_roles:
        raise ForbiddenError("Only an owner may make, change or remove owners.", code="owners_only")
    if PLATFORM_OWNER in touched and PLATFORM_OWNER not in caller_roles:
        raise ForbiddenError("Only a platform_admin may make, change or remove one.", code="owners_only")


def require_scopes(scopes: Iterable[str], roles: Iterable[str]) -> None:
    """A key never exceeds its owner: InvalidError for an unknown scope, ForbiddenError for one beyond the roles."""
    held = tuple(roles)
    for scope in scopes:
        noun, _, verb = scope.partition(":")
        if verb == "*":
            if not any(each.startswith(f"{noun}:") for each in PERMISSIONS):
                raise InvalidError(f"There is no scope {scope!r}.", code="unknown_scope")
            continue
        if scope not in PERMISSIONS:
            raise InvalidError(f"There is no scope {scope!r}.", code="unknown_scope")
        if allowed(held, scope) == "no":
            raise ForbiddenError(
                f"The key's owner may not {scope}: a key never exceeds its owner.", code="scope_exceeds"
            )
