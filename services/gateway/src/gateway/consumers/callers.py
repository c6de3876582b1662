"""Identity's keys and users decide who comes in."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import (
    ApiKeyCreated,
    ApiKeyRestated,
    ApiKeyRevoked,
    ApiKeyRotated,
    ApiKeyState,
    UserActivated,
    UserCreated,
    UserDeleted,
    UserRestated,
    UserState,
    UserSuspended,
    UserUpdated,
)
from gateway.usecases import api_keys
from spine.facts import on


@on(ApiKeyCreated, ApiKeyRotated, ApiKeyRevoked, ApiKeyRestated)
async def project_api_key(uow: UnitOfWork, fact: ApiKeyState) -> None:
    """A key was made, gets an end, or stopped working."""
    await api_keys.project_api_key(uow, fact)


@on(UserCreated, UserUpdated, UserActivated, UserSuspended, UserDeleted, UserRestated)
async def project_user(uow: UnitOfWork, fact: UserState) -> None:
    """A user came, changed role, or may do nothing any more."""
    await api_keys.project_user(uow, fact)
