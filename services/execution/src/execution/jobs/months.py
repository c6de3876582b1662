"""Every hour: partitions of runs and steps, and runs that keep them; once a day what the object store holds of none."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.objects import Objects
from chassis.telemetry import logger
from execution.usecases import leases
from execution.usecases.engine_loop import addresses_of
from execution.usecases.payloads import sweep_payloads
from execution.usecases.stale_runs import end_stale_runs, find_stale_runs
from execution.usecases.wake_ups import WakeUps
from spine.jobs import Job, every
from spine.service import Running

UPKEEP_SECONDS = 3_600
MOST_IN_VAIN = 2_000
CLOCK = "execution.clock"
log = logger(part="months")


def keep_months(objects: Objects, wake_ups: WakeUps) -> Job:
    """The job for `Service(jobs=[...])`."""
    swept: date | None = None

    @every(seconds=UPKEEP_SECONDS)
    async def keep_months(running: Running) -> None:
        """Make the coming months' partitions, drop those past their retention, and then what belonged to their runs."""
        nonlocal swept
        today = utc_now().date()
        dropped = await leases.keep_months(addresses_of(running))
        # After the drop: what ends now is there until the next turn, and whoever looks after its children finds them.
        await _end_stale_runs(running, wake_ups)
        if dropped or swept != today:
            await sweep_payloads(addresses_of(running), objects)
            swept = today

    return keep_months


async def _end_stale_runs(running: Running, wake_ups: WakeUps) -> None:
    """End what would keep a month that is to be dropped; what could not be ended now is the next hour's."""
    in_vain: list[UUID] = []
    while len(in_vain) < MOST_IN_VAIN and (found := await find_stale_runs(addresses_of(running), in_vain)):
        for organization_id, run_ids in found.items():
            ended = await _end(running, organization_id, run_ids)
            wake_ups.ended(ended)
            wake_ups.children()
            in_vain += set(run_ids).difference(ended)


async def _end(running: Running, organization_id: UUID, run_ids: list[UUID]) -> list[UUID]:
    try:
        async with running.units.begin(Caller.system(organization_id, CLOCK)) as uow:
            ended = await end_stale_runs(uow, run_ids)
    except Exception as error:  # noqa: BLE001  (one organization must not keep the months of the others)
        log.warning("stale runs not ended", organization_id=str(organization_id), error=repr(error)[:300])
        return []
    if ended:
        log.warning("runs ended by their retention", organization_id=str(organization_id), runs=len(ended))
    return ended
