"""Steps whose call goes on while nobody holds their run: ended by the worker that makes it, or found without one."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func

from chassis.uow import UnitOfWork
from execution.domain.nodes import Effects
from execution.domain.runs import WORKER_LOST, StepStatus
from execution.tables.runs import Run, Step
from execution.usecases.engine_rows import StepRow
from execution.usecases.steps import steps_of_run
from execution.usecases.waits import end_wait, fail_wait, resume

_OUTCOME = ("output", "output_ref", "error_code", "error_message", "will_retry", "provider", "model_name")
_USED = ("input_tokens", "output_tokens", "cost_usd_micros")


class LostStep(NamedTuple):
    """A step whose call goes on without its run, and whose worker has not renewed its lease."""

    organization_id: UUID
    run_id: UUID
    step_id: UUID


async def end_detached(uow: UnitOfWork, row: StepRow) -> bool:
    """Store how a detached call has ended and let its run go on; False where nobody waits for it any more.

    A write of which nobody knows whether it happened needs a decision.
    """
    found = await _waiting(uow, row.run_id, row.id)
    if found is None:
        return False
    run, step = found
    for name in (*_OUTCOME, "price_version", *_USED):
        setattr(step, name, getattr(row, name))
    _let_go(step)
    if row.status == StepStatus.NEEDS_DECISION:
        step.status = StepStatus.NEEDS_DECISION
        resume(uow, run, step)
        return True
    for name in _USED:
        setattr(run, name, getattr(run, name) + getattr(row, name))
    end_wait(uow, run, step, StepStatus(row.status))
    return True


async def lose_step(uow: UnitOfWork, lost: LostStep) -> bool:
    """Let the run of a step whose worker is gone try it again, or ask a person whether its write has happened.

    False where the worker is back, or nobody waits for the step any more.
    """
    found = await _waiting(uow, lost.run_id, lost.step_id, Step.lease_until < func.now())
    if found is None:
        return False
    run, step = found
    _let_go(step)
    if step.effects == Effects.WRITE:
        step.status = StepStatus.NEEDS_DECISION
        resume(uow, run, step)
    else:
        step.will_retry = True
        fail_wait(uow, run, step, WORKER_LOST, "The worker that made this call is gone.")
    return True


async def _waiting(uow: UnitOfWork, run_id: UUID, step_id: UUID, *conditions: Any) -> tuple[Run, Step] | None:
    run = await uow.find(Run, run_id, lock=True)
    if run is None:
        return None
    waiting = steps_of_run(run).where(Step.id == step_id, Step.status == StepStatus.WAITING, *conditions)
    step: Step | None = await uow.first(waiting.with_for_update())
    return None if step is None else (run, step)


def _let_go(step: Step) -> None:
    """What was promised to the call is over with it."""
    step.lease_until = step.child = None
