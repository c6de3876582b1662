"""Every second: runs that slipped by a kill switch."""

from __future__ import annotations

from chassis.caller import NOBODY, Caller
from execution.usecases import kill_switches
from spine.jobs import every
from spine.service import Running

SWEEP_SECONDS = 1


@every(seconds=SWEEP_SECONDS)
async def sweep_kill_switches(running: Running) -> None:
    """Stop what was claimed or started in the moment a switch was engaged, and what a long backlog left over."""
    async with running.units.begin(Caller.system(NOBODY, "execution.kill_switches")) as uow:
        await kill_switches.sweep_kill_switches(uow)
