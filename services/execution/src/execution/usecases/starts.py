"""Starting a run on somebody's behalf, in a part of a transaction that may fail alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from chassis.caller import Caller
from chassis.errors import ConflictError, RefusalError, UnavailableError
from chassis.rules import DeniedError, record_denial
from chassis.uow import UnitOfWork

_PASSING = ("busy", "request_in_flight", "not_yet_known")
"""Refusals that another try may not meet."""


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
