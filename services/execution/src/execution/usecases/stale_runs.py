"""Runs that nobody ends: stopped once the time they are kept is over, so that their month can be dropped.

A run that a person has to decide about waits without a clock, and so does what is queued where nothing is let in; one
such run would keep the month of its class for all organizations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from chassis.uow import UnitOfWork
from contracts.execution import RunTimedOut
from execution.domain.runs import RunStatus, StopReason, require_transition
from execution.tables.runs import RETENTION_CLASSES, Run
from execution.usecases.admission import sweeper
from execution.usecases.engine_loop import Addresses
from execution.usecases.runs import UNHELD, cancel_run
from execution.usecases.waits import close_waits

AT_ONCE = 200
"""Runs that one look finds and one unit of work ends, at most."""
ENDABLE = (*UNHELD, RunStatus.RUNNING)
"""What is `cancelling` is ended by its worker, or by the one that takes it over."""
# The same months as run_drop_months(): those whose last day is as long ago as their class is kept. The order is that of
# the index of open runs, so that nothing else of a month is read.
STALE = f"""select organization_id, id from run where retention_class = $1::smallint
  and id < first_id_at(
    date_trunc('month', now() at time zone 'utc' - make_interval(days => $1::smallint)) at time zone 'utc')
  and status in ({", ".join(f"'{status}'" for status in ENDABLE)}) and id <> all($2::uuid[])
order by organization_id, workspace_id, status limit {AT_ONCE}"""  # noqa: S608  (statuses and a number of our own)


async def find_stale_runs(addresses: Addresses, without: Sequence[UUID] = ()) -> dict[UUID, list[UUID]]:
    """Open runs, by organization, of months that would be dropped without them; at most 200, but for these."""
    found: dict[UUID, list[UUID]] = defaultdict(list)
    connection = await sweeper(addresses, "stale runs")
    try:
        for days in RETENTION_CLASSES:
            for row in await connection.fetch(STALE, days, list(without)):
                found[UUID(bytes=row["organization_id"].bytes)].append(UUID(bytes=row["id"].bytes))
            if found:
                break
    finally:
        connection.terminate()
    return found


async def end_stale_runs(uow: UnitOfWork, run_ids: Sequence[UUID]) -> list[UUID]:
    """Time out those of these runs that nobody works on, and have workers let go of the others; returns which.

    Those that somebody else has in hand at this moment are left as they are.
    """
    open_ones = select(Run).where(
        Run.organization_id == uow.organization_id, Run.id.in_(run_ids), Run.status.in_(ENDABLE)
    )
    runs: Sequence[Run] = await uow.all(open_ones.order_by(Run.id).with_for_update(skip_locked=True))
    waited = [run.id for run in runs if run.status in UNHELD and run.last_step]
    given_up = await close_waits(uow, waited, StopReason.TIMEOUT)
    for run in runs:
        if run.status in UNHELD:
            run.step_count += given_up[run.id]
            _time_out(uow, run)
        else:
            await cancel_run(uow, run.id, reason=_why(run))
    return [run.id for run in runs]


def _time_out(uow: UnitOfWork, run: Run) -> None:
    require_transition(RunStatus(run.status), RunStatus.TIMED_OUT)
    run.status, run.stop_reason = RunStatus.TIMED_OUT, StopReason.TIMEOUT
    run.error_code, run.error_message = StopReason.TIMEOUT, _why(run)
    run.waiting_for = run.wake_at = None
    run.completed_at = run.updated_at = uow.now
    run.version += 1
    uow.emit(RunTimedOut.of(run, owner_id=run.created_by))


def _why(run: Run) -> str:
    return f"It was still open when the {run.retention_class} days that it is kept were over."
