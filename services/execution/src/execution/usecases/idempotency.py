"""`Idempotency-Key`: the same caller's same key and body give the same run for a day."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select, text

from chassis.errors import ConflictError, InvalidError
from chassis.uow import UnitOfWork
from execution.tables.runs import IdempotencyKey

KEPT = timedelta(hours=24)
MAX_KEY_CHARACTERS = 255

_TRY_LOCK = text("select pg_try_advisory_xact_lock(hashtextextended(:name, 0))")


def request_digest(request: Mapping[str, Any]) -> bytes:
    """SHA-256 of a request, the order of its keys aside."""
    return hashlib.sha256(orjson.dumps(request, default=str, option=orjson.OPT_SORT_KEYS)).digest()


async def find_earlier_run(uow: UnitOfWork, key: str, digest: bytes) -> UUID | None:
    """The run this key already stands for, or None after reserving it until the transaction ends.

    ConflictError `request_in_flight` while the first request with it is under way, `idempotency_key_reused` when it
    came with another body.
    """
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidError(f"An Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} characters.", code="invalid_key")
    name = f"idempotency:{uow.organization_id}:{uow.caller.id}:{key}"
    if not await uow.first(_TRY_LOCK.bindparams(name=name)):
        detail = "The first request with this Idempotency-Key is still under way."
        raise ConflictError(detail, code="request_in_flight", retry_after_seconds=1)
    found: IdempotencyKey | None = await uow.first(
        select(IdempotencyKey).where(
            IdempotencyKey.organization_id == uow.organization_id,
            IdempotencyKey.caller_id == uow.caller.id,
            IdempotencyKey.key == key,
        )
    )
    if found is None:
        return None
    if found.expires_at <= uow.now:
        await uow.delete(found)
        await uow.flush()
        return None
    if found.request_sha256 != digest:
        raise ConflictError("This Idempotency-Key came with another body before.", code="idempotency_key_reused")
    return found.run_id


async def remember_run(uow: UnitOfWork, key: str, digest: bytes, run_id: UUID) -> None:
    """From now on the key stands for this run."""
    row = IdempotencyKey(
        organization_id=uow.organization_id,
        caller_id=uow.caller.id,
        key=key,
        request_sha256=digest,
        run_id=run_id,
        created_at=uow.now,
        expires_at=uow.now + KEPT,
    )
    await uow.add(row)
