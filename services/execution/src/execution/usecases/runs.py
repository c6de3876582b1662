"""Runs: read, stopped, explained. They are never changed or deleted through the API: they are what happened."""

from __future__ import annotations

from uuid import UUID

from chassis.uow import UnitOfWork
from contracts.execution import RunCancelled, RunCancelRequested
from execution.domain.runs import RunStatus, StopReason, require_transition
from execution.tables.runs import Run
from resources.listing import Resource, counter, lister

RUNS = Resource(
    Run,
    filters=(
        "id", "status", "execution_type", "workspace_id", "agent_id", "orchestration_id", "trigger_type",
        "triggered_by", "created_by", "created_at", "error_code", "stop_reason", "parent_run_id", "root_run_id",
        "cost_usd_micros", "semver", "config_digest",
    ),
)  # fmt: skip
list_runs = lister(RUNS)
count_runs = counter(RUNS)
UNHELD = (RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.WAITING)
"""In these no worker holds the run: cancelling is done at once."""


async def get_run(uow: UnitOfWork, run_id: UUID) -> Run:
    """The run."""
    return await uow.get(Run, run_id)


async def cancel_run(uow: UnitOfWork, run_id: UUID, *, reason: str) -> Run:
    """Stop a run that has not finished; cancelling it again changes nothing.

    What nobody works on ends here and now; what a worker holds is `cancelling` until that worker has let go.
    """
    run = await uow.get(Run, run_id, lock=True)
    present = RunStatus(run.status)
    if present in (RunStatus.CANCELLING, RunStatus.CANCELLED):
        return run
    wanted = RunStatus.CANCELLED if present in UNHELD else RunStatus.CANCELLING
    require_transition(present, wanted)
    run.status, run.cancel_requested_at, run.cancel_reason = wanted, uow.now, reason
    run.updated_at, run.version = uow.now, run.version + 1
    known = {"run_id": run.id, "workspace_id": run.workspace_id, "owner_id": run.created_by}
    uow.emit(RunCancelRequested.model_validate({**known, "reason": reason}))
    if wanted is RunStatus.CANCELLED:
        run.waiting_for, run.stop_reason, run.completed_at = None, StopReason.CANCELLED, uow.now
        uow.emit(_cancelled(run))
    return run


def _cancelled(run: Run) -> RunCancelled:
    return RunCancelled(
        run_id=run.id,
        workspace_id=run.workspace_id,
        owner_id=run.created_by,
        agent_id=run.agent_id,
        orchestration_id=run.orchestration_id,
        execution_type=run.execution_type,
        step_count=run.step_count,
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        cost_usd_micros=run.cost_usd_micros,
        stop_reason=StopReason.CANCELLED,
    )
