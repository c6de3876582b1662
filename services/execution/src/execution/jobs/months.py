"""Every hour: partitions of runs and steps; once a day what the object store holds of runs that are gone."""

from __future__ import annotations

from datetime import date

from chassis.clock import utc_now
from chassis.objects import Objects
from execution.usecases import leases
from execution.usecases.engine_loop import addresses_of
from execution.usecases.payloads import sweep_payloads
from spine.jobs import Job, every
from spine.service import Running

UPKEEP_SECONDS = 3_600


def keep_months(objects: Objects) -> Job:
    """The job for `Service(jobs=[...])`."""
    swept: date | None = None

    @every(seconds=UPKEEP_SECONDS)
    async def keep_months(running: Running) -> None:
        """Make the coming months' partitions, drop those past their retention, and then what belonged to their runs."""
        nonlocal swept
        today = utc_now().date()
        dropped = await leases.keep_months(addresses_of(running))
        if dropped or swept != today:
            await sweep_payloads(addresses_of(running), objects)
            swept = today

    return keep_months
