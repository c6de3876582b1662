"""API keys: shown once, stored as a hash, rotated with an overlap, revoked at the edge within two seconds."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import ConflictError, InvalidError, LimitExceededError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.api_keys import make_key
from contracts.identity import ApiKeyCreated, ApiKeyRevoked, ApiKeyRotated
from identity.domain.roles import require_may_touch
from identity.tables.api_keys import ApiKey
from identity.usecases.key_owners import current_role, require_may_make, role_of_new_key
from identity.usecases.own_organization import lock_organization
from resources.listing import Resource, counter, lister
from resources.patches import touch

MAX_KEYS = 1000
DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=30)

API_KEYS = Resource(ApiKey, filters=("user_id", "is_active", "role", "expires_at", "created_at"), search=("name",))
list_api_keys = lister(API_KEYS)
count_api_keys = counter(API_KEYS)


async def create_api_key(
    uow: UnitOfWork,
    *,
    name: str,
    user_id: UUID | None,
    role: str | None,
    scopes: list[str],
    expires_at: datetime | None,
) -> tuple[ApiKey, str]:
    """Make a key of a user (the caller, if none is named) or, with `role` alone, of the organization itself.

    Returns the row and the key, which nobody can show again. A key never exceeds its owner, nor whoever makes it.
    """
    if expires_at is not None and expires_at <= uow.now:
        raise InvalidError("The key would be over already.", code="expires_in_the_past")
    organization = await lock_organization(uow)
    await _require_room(uow)
    if user_id is None and role is None:
        user_id = uow.caller.user_id
    acts_as = await role_of_new_key(uow, user_id, role, is_platform=organization.is_platform)
    require_may_make(uow, acts_as, scopes)
    return await add_key(uow, user_id=user_id, name=name, role=acts_as, scopes=scopes, expires_at=expires_at)


async def add_key(
    uow: UnitOfWork, *, user_id: UUID | None, name: str, role: str, scopes: list[str], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Insert a key as given; returns the row and the key."""
    key, stored = make_key()
    row = ApiKey(
        id=new_id(),
        organization_id=uow.organization_id,
        user_id=user_id,
        name=name,
        role=role,
        key_prefix=stored.key_prefix,
        key_hash=stored.secret_sha256,
        scopes=scopes,
        expires_at=expires_at,
        is_active=True,
        created_by=str(user_id) if user_id else uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(row)
    uow.emit(ApiKeyCreated.of(row))
    return row, key


async def get_api_key(uow: UnitOfWork, api_key_id: UUID) -> ApiKey:
    """One key, without its secret."""
    return await uow.get(ApiKey, api_key_id)


async def rotate_api_key(uow: UnitOfWork, api_key_id: UUID, *, overlap: timedelta) -> tuple[ApiKey, str]:
    """Make the key's successor; the old one works on for the overlap, 30 days at most."""
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise InvalidError(f"An overlap is at most {MAX_OVERLAP.days} days.", code="invalid_overlap")
    await lock_organization(uow)
    old = await uow.get(ApiKey, api_key_id, lock=True)
    acts_as = await current_role(uow, old)
    require_may_make(uow, acts_as, old.scopes)
    _require_rotatable(uow, old)
    await _require_room(uow)
    row, key = await add_key(
        uow, user_id=old.user_id, name=old.name, role=acts_as, scopes=old.scopes, expires_at=old.expires_at
    )
    end = uow.now + overlap
    old.expires_at = min(end, old.expires_at) if old.expires_at else end
    old.replaced_by = row.id
    touch(uow, old)
    uow.emit(ApiKeyRotated.of(old))
    return row, key


async def revoke_api_key(uow: UnitOfWork, api_key_id: UUID) -> ApiKey:
    """End a key now; revoking it again changes nothing."""
    row = await uow.get(ApiKey, api_key_id, lock=True)
    require_may_touch(uow.caller.roles, await current_role(uow, row))
    if row.is_active:
        _revoke(uow, row)
    return row


async def revoke_keys_of_user(uow: UnitOfWork, user_id: UUID) -> None:
    """End all keys of a user who leaves."""
    statement = select(ApiKey).where(
        ApiKey.organization_id == uow.organization_id, ApiKey.user_id == user_id, ApiKey.is_active
    )
    for row in await uow.all(statement.order_by(ApiKey.id).with_for_update()):
        _revoke(uow, row)


def _revoke(uow: UnitOfWork, row: ApiKey) -> None:
    row.is_active = False
    touch(uow, row)
    uow.emit(ApiKeyRevoked.of(row))


def _require_rotatable(uow: UnitOfWork, row: ApiKey) -> None:
    if not row.is_active:
        raise ConflictError("This key is revoked. Make a new one.", code="api_key_revoked")
    if row.replaced_by is not None:
        raise ConflictError("This key has a successor already. Rotate that one.", code="api_key_rotated")
    if row.expires_at is not None and row.expires_at <= uow.now:
        raise ConflictError("This key is over. Make a new one.", code="api_key_expired")


async def _require_room(uow: UnitOfWork) -> None:
    """Fewer than `MAX_KEYS` work at present; the organization's lock is held."""
    working = ApiKey.is_active & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > uow.now))
    count = await uow.first(select(func.count()).where(ApiKey.organization_id == uow.organization_id, working))
    if count >= MAX_KEYS:
        raise LimitExceededError(f"An organization may have {MAX_KEYS} working keys.", code="too_many_api_keys")
