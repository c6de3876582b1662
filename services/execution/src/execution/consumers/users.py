"""Whoever may not act any more starts nothing by the clock either."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import ApiKeyRevoked, ApiKeyState, UserDeleted, UserState, UserSuspended, UserUpdated
from execution.usecases import schedules
from spine.facts import on


@on(UserSuspended, UserDeleted)
async def pause_schedules_of_user(uow: UnitOfWork, fact: UserState) -> None:
    """A user who was suspended or has left."""
    await schedules.pause_schedules_of(uow, str(fact.user_id))


@on(ApiKeyRevoked)
async def pause_schedules_of_key(uow: UnitOfWork, fact: ApiKeyState) -> None:
    """A key of the organization itself that was revoked."""
    if fact.user_id is None:
        await schedules.pause_schedules_of(uow, f"api_key:{fact.api_key_id}")


@on(UserUpdated)
async def follow_role(uow: UnitOfWork, fact: UserState) -> None:
    """Another role holds for what is started by the clock too."""
    await schedules.give_role(uow, fact.user_id, fact.role)
