"""Every five seconds: requests that nobody decided in time."""

from __future__ import annotations

from chassis.caller import NOBODY, Caller
from policy.usecases import approvals
from spine.jobs import every
from spine.service import Running

CLOCK = "policy.clock"


@every(seconds=5)
async def expire_approvals(running: Running) -> None:
    """Any number of processes may do it: a request is expired once."""
    async with running.units.begin(Caller.system(NOBODY, CLOCK)) as uow:
        due = await approvals.find_due_organizations(uow)
    for organization_id in due:
        async with running.units.begin(Caller.system(organization_id, CLOCK)) as uow:
            await approvals.expire_approvals(uow)
