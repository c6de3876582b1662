"""Calls that outlive their run's turn: the run waits, held by nobody, and its worker goes on with the call alone.

Each has a lease of its own on its step. How it ends is stored as if somebody had answered a wait: the run is queued,
and whoever takes it next goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from chassis.caller import Caller
from chassis.errors import ConflictError, UnavailableError
from chassis.telemetry import logger
from chassis.uow import Units
from execution.domain.runs import StepStatus
from execution.usecases.detached_steps import end_detached
from execution.usecases.engine_attempts import Attempt
from execution.usecases.engine_rows import Rows
from execution.usecases.engine_statements import CALL_LEASE_SECONDS
from execution.usecases.wake_ups import QUEUED

PULSE_SECONDS = 0.4
"""How soon a call is given up that nobody waits for any more."""
RENEW_SECONDS = 3.0
LONGEST_QUESTION_SECONDS = 3.0
AGAIN_SECONDS = 1.0
"""How soon an end that could not be stored is tried again, as long as the step is ours."""
MOST_TRIES = 20
"""At an end that is refused, not only late: then the call counts as lost, and a person is asked or another makes it."""
CLOSE_SECONDS = 2.0
"""How long a worker that is stopped waits until the ends of calls that are over have been stored."""
ACTOR = "execution.detached"
"""Not the engine: its facts of agents' steps say nothing of their runs, these say that the run goes on."""
log = logger(part="engine")

_KEY = "(organization_id, retention_class, run_id, node, iteration, attempt)"
_ASKED = f"""unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::integer[], $6::smallint[]) as i{_KEY}
join step s using {_KEY}"""
_STILL = f"select s.id from {_ASKED} where s.status = 'waiting' and i.attempt between 0 and 32000"  # noqa: S608
_RENEW = f"""with held as (
  select s.organization_id, s.retention_class, s.run_id, s.node, s.iteration, s.attempt from {_ASKED}
  where s.status = 'waiting' and i.attempt between 0 and 32000 for update of s skip locked
)
update step s set lease_until = now() + interval '{CALL_LEASE_SECONDS} s' from held i
where {" and ".join(f"s.{column.strip()} = i.{column.strip()}" for column in _KEY[1:-1].split(","))}"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Call:
    attempt: Attempt
    task: asyncio.Task[Attempt]


class DetachedCalls:
    """The calls of one worker that go on without their runs, `most` at once."""

    def __init__(self, rows: Rows, units: Units, *, after_seconds: float, most: int) -> None:
        self.after_seconds = after_seconds
        """A run whose calls all take longer lets go of them."""
        self._rows, self._units, self._most = rows, units, most
        self._calls: dict[UUID, _Call] = {}
        self._expected = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._some = asyncio.Event()

    def has_room(self, count: int) -> bool:
        """Whether so many more may go on alone."""
        return len(self._calls) + self._expected + count <= self._most

    @contextlib.contextmanager
    def room_for(self, count: int) -> Iterator[None]:
        """Keep room for so many during this block, in which they may be taken."""
        self._expected += count
        try:
            yield
        finally:
            self._expected -= count

    def take(self, calls: Mapping[asyncio.Task[Attempt], Attempt]) -> None:
        """Go on with these; that they wait is stored."""
        for task, attempt in calls.items():
            self._calls[attempt.id] = _Call(attempt, task)
            watcher = asyncio.get_running_loop().create_task(self._see_to_end(attempt, task))
            self._tasks.add(watcher)
            watcher.add_done_callback(self._tasks.discard)
        self._some.set()

    async def pulse(self) -> None:
        """Renew the leases, and give up what nobody waits for any more, until cancelled."""
        clock, renewed = asyncio.get_running_loop().time, 0.0  # at once, also after the database was away
        while True:
            await self._some.wait()
            await asyncio.sleep(PULSE_SECONDS)
            calls = list(self._calls.values())
            if not calls:
                self._some.clear()
                continue
            if clock() - renewed >= RENEW_SECONDS:
                await self._ask(_RENEW, calls)
                renewed = clock()
            still = {UUID(bytes=row["id"].bytes) for row in await self._ask(_STILL, calls)}
            for call in calls:
                if call.attempt.id not in still:
                    self._calls.pop(call.attempt.id, None)
                    call.task.cancel()

    async def close(self) -> None:
        """Give up all that is under way: it is made again once the leases are over. What has ended is stored before."""
        for call in list(self._calls.values()):
            call.task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _ask(self, statement: str, calls: list[_Call]) -> list[asyncpg.Record]:
        rows = [call.attempt.row() for call in calls]
        keys = zip(*((*row[:3], row.node, row.iteration, row.attempt) for row in rows), strict=True)
        organizations = {row.organization_id for row in rows}
        async with asyncio.timeout(LONGEST_QUESTION_SECONDS):
            return await self._rows.fetch(organizations, statement, *map(list, keys), is_kept=False)

    async def _see_to_end(self, attempt: Attempt, task: asyncio.Task[Attempt]) -> None:
        try:
            await asyncio.wait({task})
            if task.cancelled():
                return
            attempt.decide_retry()
            await self._until_known(attempt)
        finally:
            task.cancel()
            self._calls.pop(attempt.id, None)

    async def _until_known(self, attempt: Attempt) -> None:
        """Store the end, for as long as somebody waits for it."""
        row, run = attempt.row(StepStatus.NEEDS_DECISION if attempt.is_in_doubt else None), attempt.run
        caller = Caller(
            run.organization_id, "system", ACTOR, traceparent=run.traceparent, correlation_id=run.correlation_id
        )
        tries = 0
        while attempt.id in self._calls and tries < MOST_TRIES:
            try:
                async with self._units.begin(caller) as uow:
                    is_stored = await end_detached(uow, row)
            except Exception as error:  # noqa: BLE001  (the call was made and paid for: its end must not be lost)
                log.warning("end of a call not stored", run_id=str(row.run_id), error=repr(error)[:300])
                tries += not isinstance(error, (UnavailableError, ConflictError))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if is_stored:
                with contextlib.suppress(Exception):  # admission looks by itself, too
                    await self._rows.fetch({row.organization_id}, "select pg_notify($1, '')", QUEUED, is_kept=False)
            return
