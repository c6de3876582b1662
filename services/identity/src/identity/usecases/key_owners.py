"""Whom a key stands for, and what whoever makes it may give it: a key exceeds neither its owner nor its maker."""

from __future__ import annotations

from uuid import UUID

from chassis.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from chassis.rules import in_scope
from chassis.uow import UnitOfWork
from identity.domain.roles import require_may_touch, require_role, require_scopes
from identity.tables.api_keys import ApiKey
from identity.tables.users import User


async def role_of_new_key(uow: UnitOfWork, user_id: UUID | None, role: str | None, *, is_platform: bool) -> str:
    """What a new key will act as: its user's role or, without a user, the one given to a key of the organization."""
    if user_id is not None:
        return await _user_role(uow, user_id)
    if uow.permit.own_only:
        raise ForbiddenError("You may make keys for yourself only.", code="own_keys_only")
    if role is None:
        raise InvalidError("A key of the organization needs a role, one of a user its id.", code="role_required")
    require_role(role, is_platform=is_platform)
    return role


async def current_role(uow: UnitOfWork, row: ApiKey) -> str:
    """What a key acts as now: a user's key as its user does."""
    user = await uow.find(User, row.user_id) if row.user_id else None
    return user.role if user else row.role


def require_may_make(uow: UnitOfWork, acts_as: str, scopes: list[str]) -> None:
    """ForbiddenError for a key with a stronger role, or wider scopes, than its owner's or the caller's own key's."""
    require_may_touch(uow.caller.roles, acts_as)
    held = uow.caller.scopes
    if held and (not scopes or not all(in_scope(held, scope) for scope in scopes)):
        raise ForbiddenError("Your own key is narrowed: it makes none with other scopes.", code="scope_exceeds")
    require_scopes(scopes, [acts_as])


async def _user_role(uow: UnitOfWork, user_id: UUID) -> str:
    user = await uow.find(User, user_id)
    if user is None or (uow.permit.own_only and str(user_id) != uow.caller.owner_id):
        raise NotFoundError("There is no user with this id.")
    if user.status == "suspended":
        raise ConflictError("This user is suspended.", code="user_suspended")
    return user.role
