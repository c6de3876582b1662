"""Every hour: partitions of runs and steps."""

from __future__ import annotations

from execution.usecases import leases
from execution.usecases.engine_loop import addresses_of
from spine.jobs import every
from spine.service import Running

UPKEEP_SECONDS = 3_600


@every(seconds=UPKEEP_SECONDS)
async def keep_months(running: Running) -> None:
    """Make the coming months' partitions and drop those past their retention."""
    await leases.keep_months(addresses_of(running))
