"""Runs whose worker is gone: found by their lease, dispatched again. Partitions of runs, made ahead and dropped."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from chassis.telemetry import logger
from execution.clients.dispatch import Dispatch, Line
from execution.usecases.admission import SPOTS, sweeper
from execution.usecases.detached_steps import LostStep
from execution.usecases.engine_loop import Addresses

BATCH = 500
GRACE_SECONDS = 15
"""How long a run dispatched again is left alone: time to be claimed."""
MONTHS_AHEAD = 2
log = logger(part="leases")

# Only what runs has a lease; a run that was stopped while it waited has none and nobody to end it. In the same breath,
# calls that go on without their run and lost their worker are found: one question for both, as long as nobody is idle.
_REAP = f"""{SPOTS}, gone as (
  select r.retention_class, r.id from spot cross join lateral (
    select r.retention_class, r.id, r.lease_until from run r where r.organization_id = spot.organization_id
      and r.workspace_id = spot.workspace_id and r.status in ('running', 'cancelling')) r
  where coalesce(r.lease_until, '-infinity') < now() limit $1
), locked as (
  select r.retention_class, r.id from gone join run r on r.retention_class = gone.retention_class and r.id = gone.id
  where coalesce(r.lease_until, '-infinity') < now() order by r.id for update of r skip locked
)
, again as (
  update run r set lease_until = now() + make_interval(secs => $2), dispatched_at = now() from locked
  where r.retention_class = locked.retention_class and r.id = locked.id and r.status in ('running', 'cancelling')
  returning r.organization_id, r.retention_class, r.id, r.token
)
select organization_id, retention_class, id, token, null::uuid as step_id from again
union all select organization_id, null, run_id, null, step_id from lost_steps($1::integer)"""  # noqa: S608  (statuses of our own)


class Reaped(NamedTuple):
    """What had lost its worker."""

    runs: list[UUID]
    """Dispatched again."""
    steps: list[LostStep]
    """Still as they are."""


async def reap(addresses: Addresses) -> Reaped:
    """Dispatch again every run whose lease is past, in batches; find lost steps. Any number of processes may do it."""
    connection = await sweeper(addresses, "reaper")
    reaped: list[UUID] = []
    try:
        while True:
            found = await connection.fetch(_REAP, BATCH, float(GRACE_SECONDS))
            rows = [row[:4] for row in found if row["step_id"] is None]
            if not rows:
                return Reaped(reaped, [LostStep(row[0], row[2], row[4]) for row in found])
            line = await Line.open(addresses.amqp_url, queue=addresses.queue)
            try:
                # What does not arrive has its lease run out once more.
                await line.publish([Dispatch(*row) for row in rows])
            finally:
                await line.close()
            reaped += [row[2] for row in rows]
            log.warning("runs without a worker dispatched again", runs=len(rows))
    finally:
        connection.terminate()


async def keep_months(addresses: Addresses) -> bool:
    """Make the partitions of the coming months, drop those whose retention is over, forget old idempotency keys.

    Returns whether any was dropped.
    """
    connection = await sweeper(addresses, "upkeep")
    try:
        made = await connection.fetchval("select run_make_months($1)", MONTHS_AHEAD)
        dropped = await connection.fetchval("select run_drop_months()")
        await connection.fetchval("select idempotency_key_purge()")
        if made or dropped:
            log.info("months", made=made, dropped=dropped)
        return bool(dropped)
    finally:
        connection.terminate()
