"""Whoever may not act any more does nothing later either: not by the clock, and not once it is approved."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import ApiKeyRevoked, ApiKeyState, UserDeleted, UserState, UserSuspended, UserUpdated
from execution.usecases import approvals, promotion_requests, schedules
from spine.facts import on


@on(UserSuspended, UserDeleted)
async def pause_schedules_of_user(uow: UnitOfWork, fact: UserState) -> None:
    """A user who was suspended or has left."""
    await _stop(uow, str(fact.user_id))


@on(ApiKeyRevoked)
async def pause_schedules_of_key(uow: UnitOfWork, fact: ApiKeyState) -> None:
    """A key of the organization itself that was revoked."""
    if fact.user_id is None:
        await _stop(uow, f"api_key:{fact.api_key_id}")


@on(UserUpdated)
async def follow_role(uow: UnitOfWork, fact: UserState) -> None:
    """Another role holds for what is started by the clock, or once it is approved, too."""
    await schedules.give_role(uow, fact.user_id, fact.role)
    await approvals.give_gated_runs_role(uow, str(fact.user_id), fact.role)
    await promotion_requests.give_promotions_role(uow, str(fact.user_id), fact.role)


async def _stop(uow: UnitOfWork, owner_id: str) -> None:
    await schedules.pause_schedules_of(uow, owner_id)
    await approvals.fail_gated_runs(uow, owner_id)
    await promotion_requests.fail_promotions(uow, owner_id)
