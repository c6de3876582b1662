"""What to do with a batch that fails: find the fact that is to blame, park it, apply the rest; or stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError

from chassis.errors import RefusalError, UnavailableError
from spine.fact_message import RawFact
from spine.stream import stream_of

PARKED_IN_A_ROW = 20

_PARK = """insert into parked_fact (stream, sequence, organization_id, id, type, message, error)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing"""

Apply = Callable[[Sequence[RawFact]], Awaitable[None]]
"""Apply facts inside a savepoint of its own: all of them or none."""


class StopError(Exception):
    """This stream must not go past this fact."""

    def __init__(self, fact: RawFact, reason: str) -> None:
        super().__init__(f"{reason}: {fact.type} {fact.sequence} of {fact.producer}")
        self.fact = fact


def is_poison(error: Exception) -> bool:
    """Can trying again not help? A refusal, data that no table takes, or bytes that cannot be decoded."""
    if isinstance(error, RefusalError):
        return not isinstance(error, UnavailableError) and error.code != "busy"
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "sqlstate", None) or "").startswith(("22", "23"))
    poison = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, KeyError, TypeError)
    return isinstance(error, poison)


class Parking:
    """Bisects a failing batch; order is kept, because the left half is applied before the right one.

    Security facts are never parked, and no more than 19 in a row: then it is the deployment that is bad, not the facts.
    """

    def __init__(self, security: Collection[str] = ()) -> None:
        self._security = frozenset(security)
        self._in_a_row = self._was_in_a_row = 0
        self.parked = 0

    async def commit(self, facts: Sequence[RawFact], store: Callable[[bool], Awaitable[None]]) -> None:
        """Run the transaction of these facts: first without savepoints; if it met poison, once more and `careful`."""
        self.parked, self._in_a_row = 0, self._was_in_a_row
        try:
            await store(False)
            self._was_in_a_row = 0 if facts else self._was_in_a_row
        except Exception as error:
            if not is_poison(error):
                raise
            await store(True)
            self._was_in_a_row = self._in_a_row

    async def apply(
        self, facts: Sequence[RawFact], apply: Apply, park: Callable[[RawFact, Exception], Awaitable[None]]
    ) -> None:
        """Apply all that can be applied and park the rest; StopError at one that may not be parked."""
        try:
            await apply(facts)
        except Exception as error:
            if not is_poison(error):
                raise
            if len(facts) == 1:
                self._check(facts[0], error)
                await park(facts[0], error)
                return
        else:
            self._in_a_row = 0
            return
        half = len(facts) // 2
        await self.apply(facts[:half], apply, park)
        await self.apply(facts[half:], apply, park)

    def _check(self, fact: RawFact, error: Exception) -> None:
        if fact.type in self._security:
            raise StopError(fact, "a security fact could not be applied") from error
        self._in_a_row += 1
        self.parked += 1
        if self._in_a_row >= PARKED_IN_A_ROW:
            raise StopError(fact, f"{PARKED_IN_A_ROW} facts in a row could not be applied") from error


async def park(connection: Any, fact: RawFact, error: Exception, reader: str = "") -> None:
    """Put a fact aside, with the reason; its numbers and bytes stay whole, so that it can be replayed."""
    await connection.execute(
        _PARK, reader + stream_of(fact.producer), fact.sequence, fact.organization_id, fact.id, fact.type, fact.message,
        f"{type(error).__name__}: {error}"[:500],
    )  # fmt: skip
