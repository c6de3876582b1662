"""Every few seconds: runs whose worker is gone, and calls that went on without their runs and lost theirs."""

from __future__ import annotations

from chassis.caller import Caller
from chassis.errors import RefusalError
from chassis.telemetry import logger
from execution.usecases import leases
from execution.usecases.detached_steps import lose_step
from execution.usecases.engine_loop import addresses_of
from spine.jobs import every
from spine.service import Running

REAP_SECONDS = 2
CLOCK = "execution.clock"
log = logger(part="leases")


@every(seconds=REAP_SECONDS)
async def reap_leases(running: Running) -> None:
    """Dispatch again what lost its worker, and let runs try again what went on without them."""
    for step in (await leases.reap(addresses_of(running))).steps:
        try:
            async with running.units.begin(Caller.system(step.organization_id, CLOCK)) as uow:
                if await lose_step(uow, step):
                    log.warning("call without a worker", run_id=str(step.run_id))
        except RefusalError as error:  # somebody holds the run: in two seconds, then
            log.warning("call not given up yet", run_id=str(step.run_id), error=repr(error)[:300])
