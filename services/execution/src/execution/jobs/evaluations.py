"""Every few seconds: evaluations of which a run is over."""

from __future__ import annotations

from chassis.caller import NOBODY, Caller
from chassis.objects import Objects
from chassis.telemetry import logger
from execution.usecases import evaluation_results
from spine.jobs import Job, every
from spine.service import Running

LOOK_SECONDS = 5
CLOCK = "execution.clock"
log = logger(part="evaluations")


def judge_evaluations(objects: Objects) -> Job:
    """Judge what is over. Any number of processes may do it: an evaluation is judged by whoever holds its row."""

    @every(seconds=LOOK_SECONDS)
    async def look(running: Running) -> None:
        async with running.units.begin(Caller.system(NOBODY, CLOCK)) as uow:
            due = await evaluation_results.find_due(uow)
        for organization_id, evaluation_id in due:
            try:
                async with running.units.begin(Caller.system(organization_id, CLOCK)) as uow:
                    await evaluation_results.judge_evaluation(uow, evaluation_id, objects=objects)
            except Exception as error:  # noqa: BLE001  (one evaluation must not keep the others waiting)
                log.warning("evaluation not judged", evaluation_id=str(evaluation_id), error=repr(error)[:300])

    return look
