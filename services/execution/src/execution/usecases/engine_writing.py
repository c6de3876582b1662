"""One run's writes: each behind the fence, safe to repeat when nobody knows whether it was stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from execution.domain.runs import RunStatus, StopReason
from execution.usecases import engine_facts
from execution.usecases.engine_batches import Batches
from execution.usecases.engine_rows import ClaimedRun, Rows, RunWrite, Standing, is_gone

PATIENCE_SECONDS = 15.0
PAUSE_SECONDS = 0.2
Value = TypeVar("Value")


class LostRunError(Exception):
    """Somebody else holds the run now: whatever we know of it is of no more use."""


class ForgottenClaimError(Exception):
    """The database has crashed and does not know that we have the run: it has to be taken up anew."""


class AnsweredMeanwhileError(Exception):
    """Somebody answered a wait, or ended a call, while we were about to end it: the run has to be taken up anew."""

    def __init__(self, write: RunWrite) -> None:
        super().__init__("answered meanwhile")
        self.write = write


class _CancelledMeanwhileError(Exception):
    """The run was asked to stop while its end was on its way."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Writer:
    """Stores what happens to one run; after each write it knows the run as its row is."""

    def __init__(self, run: ClaimedRun, writes: Batches[RunWrite, str | None], rows: Rows) -> None:
        self._run, self._writes, self._rows = run, writes, rows

    async def store(self, write: RunWrite) -> str:
        """Store a write that does not end the run; returns the run's status. LostRunError behind the fence."""
        status = await self._stored(write)
        run = self._run
        run.last_step += 1
        run.step_count += write.attempts
        run.input_tokens += write.input_tokens
        run.output_tokens += write.output_tokens
        run.cost_usd_micros += write.cost_usd_micros
        return status

    async def end(self, write: RunWrite) -> str:
        """Store the run's end; a request to stop it that came first wins. Returns the final status."""
        write.ended = True
        write.facts.append(engine_facts.run_ended(write))
        try:
            return await self._stored(write)
        except _CancelledMeanwhileError as meanwhile:
            write.facts.pop()
            write.status, write.stop_reason = RunStatus.CANCELLED, meanwhile.reason
            write.error_code = write.error_message = None
            write.facts.append(engine_facts.run_ended(write))
            return await self._stored(write)

    async def why_cancelled(self) -> StopReason:
        """Whether somebody asked the run to stop, or a kill switch did."""
        run = self._run
        return _why(await _patiently(lambda: self._rows.standing(run)))

    async def _stored(self, write: RunWrite) -> str:
        run = self._run
        status = await _patiently(lambda: self._writes.add(write))
        if status is not None:
            return status
        standing = await _patiently(lambda: self._rows.standing(run))
        if standing is not None and standing.token < run.token:
            raise ForgottenClaimError
        if standing is None or standing.token != run.token:
            raise LostRunError
        if standing.last_step == run.last_step + 1:
            return standing.status  # stored at the first try, whose answer was lost with the connection
        if write.settles and standing.answers != run.answers:
            raise AnsweredMeanwhileError(write)
        if standing.status == RunStatus.CANCELLING and write.ended:
            raise _CancelledMeanwhileError(_why(standing))
        raise LostRunError


def _why(standing: Standing | None) -> StopReason:
    return StopReason.KILLED if standing is not None and standing.is_killed else StopReason.CANCELLED


async def _patiently(do: Callable[[], Awaitable[Value]]) -> Value:
    """Do it, again and again while the database is away, for a while."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            return await do()
        except Exception as error:
            if not is_gone(error) or loop.time() > until:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
