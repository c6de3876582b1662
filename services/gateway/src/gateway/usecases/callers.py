"""Who holds this key: the edge's own answer, from what identity's facts have told it, at most a second old."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.db import begin
from chassis.errors import ForbiddenError, LimitExceededError, RefusalError, UnauthenticatedError, UnavailableError
from contracts.api_keys import ParsedKey, parse_key
from gateway.domain.rates import Bucket

FRESH_SECONDS = 1.0
YOUNG_KEY_SECONDS = 0.25
"""How long an unknown key waits for its fact, which may be on its way."""
UNKNOWN_PER_SECOND = 200
"""Look-ups of keys this process has not met: a well-formed key is easily made up, a look-up is not free."""
MAX_KNOWN = 20_000

_FIND = "select * from find_api_key($1)"
_ATTESTED = "select attested_at from producer_freshness where producer = 'identity'"
_UNKNOWN = "This key is not known here, or it has been revoked."


@dataclass(slots=True)
class KnownCaller:
    """The holder of a key, as it was read, and what is left of its allowance."""

    caller: Caller
    key_rate: int
    organization_rate: int
    read_at: float
    bucket: Bucket
    refusal: RefusalError | None = None
    """Why the right holder of the right key may not come in."""
    is_stale: bool = False
    """Whether identity was silent for too long when it was read: it may have been revoked meanwhile."""


@dataclass(slots=True)
class CallerBook:
    """Every key this process has met lately."""

    engine: Callable[[], AsyncEngine]
    key_rate: int
    """The operator's limit of requests a second for each key; an organization may set a lower one."""
    organization_rate: int
    max_staleness_seconds: float
    """Without a word from identity for longer than this, nobody is believed: revocations may be missing."""
    _known: dict[bytes, KnownCaller] = field(default_factory=dict)
    _refused: dict[bytes, float] = field(default_factory=dict)
    _reading: dict[bytes, asyncio.Task[KnownCaller]] = field(default_factory=dict)
    _organizations: dict[Any, Bucket] = field(default_factory=dict)
    _strangers: Bucket = field(default_factory=lambda: Bucket.full(UNKNOWN_PER_SECOND, 0))

    async def holder(self, key: str, *, even_stale: bool = False) -> KnownCaller:
        """Whose key this is; UnauthenticatedError, ForbiddenError or, where identity is silent, UnavailableError.

        With `even_stale` a known key is believed all the same: for what must be possible when all else is not.
        """
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is None or known.is_stale or time.monotonic() - known.read_at >= FRESH_SECONDS:
            known = await self._read_once(digest, key)
        if known.refusal is not None:
            raise known.refusal
        if known.is_stale and not even_stale:
            raise _silent()
        return known

    def admit(self, known: KnownCaller) -> None:
        """Count one request; LimitExceededError above the key's or the organization's rate."""
        now = time.monotonic()
        wait = known.bucket.take(known.key_rate, now)
        if wait:
            raise _too_often(f"This key may ask {known.key_rate} times a second.", wait)
        organization_id = known.caller.organization_id
        bucket = self._organizations.get(organization_id)
        if bucket is None:
            _make_room(self._organizations)
            bucket = self._organizations[organization_id] = Bucket.full(known.organization_rate, now)
        wait = bucket.take(known.organization_rate, now)
        if wait:
            raise _too_often(f"This organization may ask {known.organization_rate} times a second.", wait)

    async def require_fresh(self) -> None:
        """UnavailableError while identity has been silent for too long."""
        async with begin(self.engine(), None) as (_, raw):
            if self._is_silent(await raw.fetchval(_ATTESTED)):
                raise _silent()

    async def _read_once(self, digest: bytes, key: str) -> KnownCaller:
        """Many requests of one key at once ask the database once."""
        reading = self._reading.get(digest)
        if reading is None:
            reading = self._reading[digest] = asyncio.create_task(self._read(digest, key))
            reading.add_done_callback(partial(self._done, digest))
        return await asyncio.shield(reading)

    def _done(self, digest: bytes, reading: asyncio.Task[KnownCaller]) -> None:
        self._reading.pop(digest, None)
        if not reading.cancelled():
            reading.exception()  # whoever waited has it; if all of them left, nobody misses it

    async def _read(self, digest: bytes, key: str) -> KnownCaller:
        parsed = parse_key(key)
        if parsed is None:
            raise UnauthenticatedError("This is no key: a key starts with rmt_ and its last letters are a checksum.")
        row, is_stale = await self._find(digest, parsed)
        if row is None and is_stale:
            raise _silent()  # it may be one that identity could not tell of
        if row is None or not hmac.compare_digest(row["secret_sha256"], parsed.secret_sha256):
            self._known.pop(digest, None)
            raise UnauthenticatedError(_UNKNOWN)
        old, now = self._known.pop(digest, None), time.monotonic()
        key_rate = min(self.key_rate, row["per_user_rate_limit"] or self.key_rate)
        known = KnownCaller(
            caller=_caller(row),
            key_rate=key_rate,
            organization_rate=row["global_rate_limit"] or self.organization_rate,
            read_at=now,
            bucket=old.bucket if old else Bucket.full(key_rate, now),
            refusal=_refusal(row),
            is_stale=is_stale,
        )
        _make_room(self._known)
        self._known[digest] = known
        return known

    async def _find(self, digest: bytes, parsed: ParsedKey) -> tuple[Any, bool]:
        """The key's row, and whether identity has been silent for too long."""
        is_stranger = digest not in self._known
        now = time.monotonic()
        if is_stranger and now - self._refused.get(digest, -math.inf) < FRESH_SECONDS:
            return None, False
        if is_stranger and (wait := self._strangers.take(UNKNOWN_PER_SECOND, now)):
            raise _too_often("Too many unknown keys are tried.", wait)
        row, is_stale = await self._look_up(parsed)
        if row is None and is_stranger and not is_stale:
            await asyncio.sleep(YOUNG_KEY_SECONDS)
            row, is_stale = await self._look_up(parsed)
        if row is None and not is_stale:
            _make_room(self._refused)
            self._refused[digest] = time.monotonic()
        return row, is_stale

    async def _look_up(self, parsed: ParsedKey) -> tuple[Any, bool]:
        async with begin(self.engine(), None) as (_, raw):
            row = await raw.fetchrow(_FIND, parsed.key_prefix)
            return row, self._is_silent(await raw.fetchval(_ATTESTED))

    def _is_silent(self, attested_at: datetime | None) -> bool:
        """Before identity's first word ever there is nothing that could have been revoked."""
        if attested_at is None:
            return False
        return (utc_now() - attested_at).total_seconds() > self.max_staleness_seconds


def _silent() -> UnavailableError:
    return UnavailableError(
        "Identity has been silent for too long, so keys cannot be trusted right now.",
        code="identity_stale",
        retry_after_seconds=1,
    )


def _caller(row: Any) -> Caller:
    role = row["user_role"] if row["user_id"] else row["key_role"]
    return Caller(
        row["organization_id"],
        "api_key",
        str(row["api_key_id"]),
        user_id=row["user_id"],
        roles=frozenset((role,) if role else ()),
        scopes=frozenset(row["scopes"]),
    )


def _refusal(row: Any) -> RefusalError | None:
    if not row["is_active"]:
        return UnauthenticatedError(_UNKNOWN, code="api_key_revoked")
    if row["is_over"]:
        return UnauthenticatedError("This key's time is over. Make a new one.", code="api_key_expired")
    if row["user_id"] and row["user_status"] not in ("active", "invited"):
        return UnauthenticatedError("The user this key belongs to is suspended or gone.", code="user_suspended")
    if row["organization_status"] in ("suspended", "deleted"):
        status = row["organization_status"]
        return ForbiddenError(f"This organization is {status}.", code=f"organization_{status}")
    return None


def _too_often(detail: str, wait: float) -> LimitExceededError:
    return LimitExceededError(detail, code="rate_limited", retry_after_seconds=max(1, math.ceil(wait)))


def _make_room(kept: dict[Any, Any]) -> None:
    """Forget who has been there longest, so that nobody can make this grow without end."""
    while len(kept) >= MAX_KNOWN:
        del kept[next(iter(kept))]
