"""Every few seconds: schedules whose moment has come; a cron expression says minutes."""

from __future__ import annotations

from chassis.caller import NOBODY, Caller
from chassis.objects import Objects
from chassis.telemetry import logger
from execution.usecases import schedule_ticks
from execution.usecases.wake_ups import WakeUps
from spine.jobs import Job, every
from spine.service import Running

TICK_SECONDS = 3
CLOCK = "execution.clock"
log = logger(part="schedules")


def tick_schedules(objects: Objects, wake_ups: WakeUps) -> Job:
    """Start what is due. Any number of processes may do it: a tick's run commits with the clock that moves on."""

    @every(seconds=TICK_SECONDS)
    async def tick(running: Running) -> None:
        async with running.units.begin(Caller.system(NOBODY, CLOCK)) as uow:
            due = await schedule_ticks.find_due(uow)
        for organization_id, schedule_id in due:
            try:
                async with running.units.begin(Caller.system(organization_id, CLOCK)) as uow:
                    await schedule_ticks.tick_schedule(uow, schedule_id, rules_of=running.rules.of, objects=objects)
            except Exception as error:  # noqa: BLE001  (one schedule must not stop the clock of the others)
                log.warning("schedule not ticked", schedule_id=str(schedule_id), error=repr(error)[:300])
                continue
            wake_ups.queued()

    return tick
