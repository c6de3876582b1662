"""Facts of runs in their final bytes, to be stored by the statement that makes them true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chassis.clock import utc_now
from chassis.ids import new_id
from contracts.envelope import Fact, wrap
from contracts.execution import (
    ApprovalWanted,
    RunCancelled,
    RunCompleted,
    RunEnded,
    RunFailed,
    RunStarted,
    RunTimedOut,
    RunWaitStarted,
    StepCompleted,
    StepFailed,
    StepSkipped,
)
from execution.domain.runs import RunStatus
from execution.usecases.engine_rows import ClaimedRun, FactRow, RunWrite, StepRow

ACTOR = "execution.engine"
_ENDS: dict[str, type[RunEnded]] = {
    RunStatus.COMPLETED: RunCompleted,
    RunStatus.FAILED: RunFailed,
    RunStatus.CANCELLED: RunCancelled,
    RunStatus.TIMED_OUT: RunTimedOut,
}


def started(run: ClaimedRun) -> FactRow:
    """A worker claimed the run for the first time."""
    return _row(run, RunStarted(run_id=run.id, workspace_id=run.workspace_id, owner_id=run.created_by))


def step_ended(run: ClaimedRun, step: StepRow) -> FactRow:
    """An attempt succeeded, failed or was given up: what it is known to have used is booked from this."""
    known = _which(run, step) | {
        "agent_id": step.agent_id,
        "agent_semver": step.agent_semver,
        "provider": step.provider,
        "model_name": step.model_name,
        "input_tokens": step.input_tokens,
        "output_tokens": step.output_tokens,
        "cost_usd_micros": step.cost_usd_micros,
        "price_version": step.price_version,
        "started_at": step.started_at,
        "ended_at": step.completed_at,
    }
    if step.error_code is None:
        return _row(run, StepCompleted(**known))
    return _row(run, StepFailed(**known, error_code=step.error_code, will_retry=step.will_retry))


def step_skipped(run: ClaimedRun, step: StepRow) -> FactRow:
    """Nobody has to answer what the step waits for."""
    return _row(run, StepSkipped(**_which(run, step)))


def _which(run: ClaimedRun, step: StepRow) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "workspace_id": run.workspace_id,
        "step_id": step.id,
        "node": step.node,
        "iteration": step.iteration,
        "attempt": step.attempt,
        "kind": step.kind,
        "owner_id": run.created_by,
    }


def wait_started(
    run: ClaimedRun, waiting_for: str, steps: Sequence[StepRow], approvals: Sequence[ApprovalWanted] = ()
) -> FactRow:
    """These steps of the run wait for somebody or something."""
    fact = RunWaitStarted(
        run_id=run.id,
        workspace_id=run.workspace_id,
        owner_id=run.created_by,
        waiting_for=waiting_for,
        step_ids=[step.id for step in steps],
        approvals=list(approvals),
    )
    return _row(run, fact)


def run_ended(write: RunWrite) -> FactRow:
    """The run reached the end that this write stores."""
    run = write.run
    ended = _ENDS[write.status](
        run_id=run.id,
        workspace_id=run.workspace_id,
        owner_id=run.created_by,
        agent_id=run.agent_id,
        orchestration_id=run.orchestration_id,
        execution_type=run.execution_type,
        step_count=run.step_count + write.attempts,
        input_tokens=run.input_tokens + write.input_tokens,
        output_tokens=run.output_tokens + write.output_tokens,
        cost_usd_micros=run.cost_usd_micros + write.cost_usd_micros,
        error_code=write.error_code or "",
        stop_reason=write.stop_reason or "",
    )
    return _row(run, ended)


def _row(run: ClaimedRun, fact: Fact) -> FactRow:
    fact_id = new_id()
    body = wrap(
        fact,
        fact_id=fact_id,
        source="execution",
        time=utc_now(),
        organization_id=run.organization_id,
        actor_type="system",
        actor_id=ACTOR,
        traceparent=run.traceparent,
        correlation_id=run.correlation_id,
    )
    return FactRow(run.organization_id, run.id, fact_id, fact.type, run.traceparent, body)
