"""Steps: read with their run; and decided by a person where nobody else knows what became of one."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, select

from chassis.errors import ConflictError, InvalidError, NotFoundError
from chassis.objects import Objects, keep_payload
from chassis.uow import UnitOfWork
from contracts.execution import StepCompleted, StepDecided, StepFailed
from execution.domain.forks import kept_of
from execution.domain.runs import (
    DECIDED_FAILED,
    DECIDED_RETRY,
    Decided,
    RunStatus,
    StepStatus,
    WaitingFor,
    require_transition,
)
from execution.tables.runs import Run, Step

MAX_STEP_ROWS = 10_000


class StepDecision(NamedTuple):
    """What a person says became of an attempt at a write."""

    outcome: Decided
    output: Any = None
    """What the write gave back, where it happened."""
    reason: str = ""


async def list_steps(uow: UnitOfWork, run_id: UUID) -> list[Step]:
    """Every attempt at every step of a run, in the order they were started."""
    return await steps_of(uow, await _run(uow, run_id))


async def steps_of(uow: UnitOfWork, run: Run) -> list[Step]:
    """Every attempt at every step of a run that the caller may see."""
    ordered = steps_of_run(run).order_by(Step.step_number, Step.started_at, Step.node, Step.iteration, Step.attempt)
    return list(await uow.all(ordered.limit(MAX_STEP_ROWS)))


def queue_again(uow: UnitOfWork, run: Run) -> None:
    """A run that waited goes on; the time it has waited is no part of the time it may take, but for its own calls."""
    require_transition(RunStatus(run.status), RunStatus.QUEUED)
    if run.waiting_for != WaitingFor.STEP:
        run.waited += uow.now - (run.waiting_since or uow.now)
    run.status, run.waiting_for, run.dispatched_at, run.wake_at = RunStatus.QUEUED, None, None, None
    run.waiting_since = None


async def steps_before(uow: UnitOfWork, run: Run, node: str, iteration: int) -> list[Step]:
    """What a run had behind it when it came to a step, approvals aside.

    InvalidError `unknown_step` where it never came to that step.
    """
    steps = await steps_of(uow, run)
    kept = kept_of(steps, node, iteration)
    if kept is None:
        known = ", ".join(dict.fromkeys(step.node for step in steps)) or "none"
        detail = f"The run never came to the step {node!r:.80} #{iteration}. Its steps: {known}."
        raise InvalidError(detail, code="unknown_step")
    return kept


async def decide_step(
    uow: UnitOfWork, run_id: UUID, step_id: UUID, decision: StepDecision, *, objects: Objects
) -> Step:  # fmt: skip
    """Say what became of a write of which nobody knows; with the last of them the run goes on.

    ConflictError `not_undecided` for any other step, or one that was decided already.
    """
    run = await _run(uow, run_id, lock=True)
    step: Step | None = await uow.first(steps_of_run(run).where(Step.id == step_id).with_for_update())
    if step is None:
        raise NotFoundError("There is no step with this id.")
    if run.waiting_for != WaitingFor.DECISION or step.status != StepStatus.NEEDS_DECISION:
        raise ConflictError("Nobody has to decide about this step.", code="not_undecided")
    if decision.outcome is Decided.COMPLETED:
        step.output, step.output_ref = await keep_payload(objects, uow.organization_id, run.id, decision.output)
    _end(uow, step, decision.outcome)
    run.step_count, run.updated_at, run.version = run.step_count + 1, uow.now, run.version + 1
    run.input_tokens, run.output_tokens = run.input_tokens + step.input_tokens, run.output_tokens + step.output_tokens
    run.cost_usd_micros += step.cost_usd_micros
    await uow.flush()
    if await uow.first(steps_of_run(run).where(Step.status == StepStatus.NEEDS_DECISION).limit(1)) is None:
        queue_again(uow, run)
    _announce(uow, run, step, decision)
    return step


def _end(uow: UnitOfWork, step: Step, outcome: Decided) -> None:
    completed = outcome is Decided.COMPLETED
    step.status = StepStatus.COMPLETED if completed else StepStatus.FAILED
    step.will_retry = outcome is Decided.RETRY
    step.error_code = step.error_message = None
    if not completed:
        step.error_code = DECIDED_RETRY if step.will_retry else DECIDED_FAILED
        step.error_message = "A person said that it did not happen."
    step.completed_at = step.updated_at = uow.now
    step.version += 1


def _announce(uow: UnitOfWork, run: Run, step: Step, decision: StepDecision) -> None:
    known = {"workspace_id": run.workspace_id, "owner_id": run.created_by, "step_id": step.id}
    uow.emit(StepDecided.of(step, **known, outcome=decision.outcome, reason=decision.reason))
    ended = StepCompleted if decision.outcome is Decided.COMPLETED else StepFailed
    uow.emit(ended.of(step, **known, ended_at=step.completed_at))


async def _run(uow: UnitOfWork, run_id: UUID, *, lock: bool = False) -> Run:
    """The run whose steps are meant; NotFoundError where the caller's right does not reach them."""
    run = await uow.get(Run, run_id, lock=lock)
    try:
        uow.permit.check("step", str(run_id), {"created_by": run.created_by, "workspace_id": str(run.workspace_id)})
    except NotFoundError:
        raise NotFoundError("There is no run with this id.") from None
    return run


def steps_of_run(run: Run) -> Select[Step]:
    """Select the attempts at steps of this run."""
    return select(Step).where(
        Step.organization_id == run.organization_id,
        Step.retention_class == run.retention_class,
        Step.run_id == run.id,
    )
