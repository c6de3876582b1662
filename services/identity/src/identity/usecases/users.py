"""Users: invited, activated, suspended, removed; somebody always remains who owns the organization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import ConflictError, LimitExceededError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.identity import UserActivated, UserCreated, UserDeleted, UserState, UserSuspended, UserUpdated
from identity.domain.roles import owner_role, require_may_touch, require_role
from identity.tables.users import User
from identity.usecases import api_keys
from identity.usecases.own_organization import lock_organization
from identity.usecases.subscriptions import read_max_users
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch, touch
from resources.versions import require_version

USERS = Resource(
    User, filters=("status", "role", "email", "created_at"), sorts=("created_at", "email"), search=("email", "name")
)
list_users = lister(USERS)
count_users = counter(USERS)


async def invite_user(uow: UnitOfWork, *, email: str, name: str, role: str) -> User:
    """Add somebody who still has to be activated; LimitExceededError above the subscription's number of users."""
    organization = await lock_organization(uow)
    require_role(role, is_platform=organization.is_platform)
    require_may_touch(uow.caller.roles, role)
    await _require_room(uow)
    return await add_user(uow, email=email, name=name, role=role, status="invited")


async def add_user(uow: UnitOfWork, *, email: str, name: str, role: str, status: str) -> User:
    """Insert a user as given."""
    user = User(
        id=new_id(),
        organization_id=uow.organization_id,
        email=email,
        name=name,
        status=status,
        role=role,
        mfa_enabled=False,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(user, conflict=f"There is a user with the address {email} already.")
    uow.emit(UserCreated.of(user))
    return user


async def get_user(uow: UnitOfWork, user_id: UUID) -> User:
    """One user."""
    return await uow.get(User, user_id)


async def update_user(
    uow: UnitOfWork, user_id: UUID, *, expected_version: int | None, changes: Mapping[str, Any]
) -> User:
    """Change name, picture or role; the last active owner stays one, and its keys follow the role at once."""
    organization = await lock_organization(uow)
    user = await uow.get(User, user_id, lock=True)
    require_version(user.version, expected_version)
    role = changes.get("role", user.role)
    require_may_touch(uow.caller.roles, user.role, role)
    require_role(role, is_platform=organization.is_platform)
    if role != user.role:
        await _require_another_owner(uow, user, is_platform=organization.is_platform)
    if apply_patch(uow, user, changes):
        uow.emit(UserUpdated.of(user))
    return user


async def activate_user(uow: UnitOfWork, user_id: UUID) -> User:
    """Let an invited or suspended user work; activating it again changes nothing."""
    user = await uow.get(User, user_id, lock=True)
    require_may_touch(uow.caller.roles, user.role)
    if user.status == "active":
        return user
    user.status = "active"
    return _changed(uow, user, UserActivated)


async def suspend_user(uow: UnitOfWork, user_id: UUID) -> User:
    """Stop a user and revoke its keys, which are refused within two seconds. Suspending it again changes nothing."""
    organization = await lock_organization(uow)
    user = await uow.get(User, user_id, lock=True)
    require_may_touch(uow.caller.roles, user.role)
    if user.status == "suspended":
        return user
    await _require_another_owner(uow, user, is_platform=organization.is_platform)
    await api_keys.revoke_keys_of_user(uow, user_id)
    user.status = "suspended"
    return _changed(uow, user, UserSuspended)


async def delete_user(uow: UnitOfWork, user_id: UUID) -> None:
    """Remove a user and revoke its keys."""
    organization = await lock_organization(uow)
    user = await uow.get(User, user_id, lock=True)
    require_may_touch(uow.caller.roles, user.role)
    await _require_another_owner(uow, user, is_platform=organization.is_platform)
    await api_keys.revoke_keys_of_user(uow, user_id)
    await uow.delete(user)
    user.status = "suspended"
    _changed(uow, user, UserDeleted)


async def _require_room(uow: UnitOfWork) -> None:
    most = await read_max_users(uow)
    count = await uow.first(select(func.count()).where(User.organization_id == uow.organization_id))
    if count >= most:
        raise LimitExceededError(f"The subscription allows {most} users.", code="too_many_users")


async def _require_another_owner(uow: UnitOfWork, user: User, *, is_platform: bool) -> None:
    role = owner_role(is_platform=is_platform)
    if user.role != role or user.status != "active":
        return
    others = select(User.id).where(
        User.organization_id == uow.organization_id, User.role == role, User.status == "active", User.id != user.id
    )
    if await uow.first(others.limit(1)) is None:
        raise ConflictError("The last active owner cannot go. Make somebody else an owner first.", code="last_owner")


def _changed(uow: UnitOfWork, user: User, kind: type[UserState]) -> User:
    touch(uow, user)
    uow.emit(kind.of(user))
    return user
