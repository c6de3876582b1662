"""Keys and users here are projections of identity's: what the edge needs to know who is asking."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import ApiKeyState, UserDeleted, UserState
from gateway.tables.callers import ApiKey, KnownUser
from spine.facts import project


async def project_api_key(uow: UnitOfWork, fact: ApiKeyState) -> None:
    """Remember a key as identity has it now."""
    values = {
        "organization_id": uow.organization_id,
        "user_id": fact.user_id,
        "key_prefix": fact.key_prefix,
        "secret_sha256": fact.secret_sha256,
        "role": fact.role,
        "scopes": fact.scopes,
        "is_active": fact.is_active,
        "expires_at": fact.expires_at,
    }
    await project(uow, ApiKey, {"id": fact.api_key_id}, fact.version, values)


async def project_user(uow: UnitOfWork, fact: UserState) -> None:
    """Remember a user's role and state; one who left stays known as gone, so that a late fact cannot bring it back."""
    status = "deleted" if isinstance(fact, UserDeleted) else fact.status
    values = {"organization_id": uow.organization_id, "role": fact.role, "status": status}
    await project(uow, KnownUser, {"id": fact.user_id}, fact.version, values)
