"""Acting on somebody's behalf who is not there: as whom, and starting a run in a part that may fail alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import UUID

from chassis.caller import Caller
from chassis.errors import ConflictError, RefusalError, UnavailableError
from chassis.rules import DeniedError, record_denial
from chassis.uow import UnitOfWork

_PASSING = ("busy", "request_in_flight", "not_yet_known")
"""Refusals that another try may not meet."""


class Kept(Protocol):
    """A row that has kept whose it is and in which trace it was asked for."""

    caller: Any
    traceparent: Any
    correlation_id: Any


def caller_of(uow: UnitOfWork, row: Kept) -> Caller:
    """Whoever asked for what this row holds, as they may act now."""
    return Caller.from_json(
        uow.organization_id, row.caller, traceparent=row.traceparent, correlation_id=row.correlation_id
    )


async def start_as(uow: UnitOfWork, caller: Caller, start: Callable[[], Awaitable[UUID]]) -> UUID | RefusalError:
    """The id of the run that was started as this caller, or why it may not be; a denial is on record.

    Rows read before a refusal are no longer the session's: read them again. Raises what another try may mend.
    """
    before = uow.caller
    await uow.become(caller)
    started: UUID | RefusalError
    try:
        async with uow.savepoint():
            started = await start()
    except UnavailableError:
        raise
    except RefusalError as refusal:
        if isinstance(refusal, ConflictError) and refusal.code in _PASSING:
            raise
        if isinstance(refusal, DeniedError):
            record_denial(uow, refusal)
        started = refusal
    await uow.become(before)
    return started
