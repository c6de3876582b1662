"""Runs: started, read, stopped. Between the first and the last the engine has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID

from chassis.ids import new_id
from chassis.objects import Objects, keep_payload
from chassis.rules import DeniedError, Rules, decide_for, record_decision, resource_of, told
from chassis.uow import UnitOfWork
from contracts.execution import RunCancelled, RunCancelRequested, RunQueued
from execution.domain.runs import (
    UNFINISHED,
    UNSUCCESSFUL,
    Limits,
    RunStatus,
    StopReason,
    WaitingFor,
    require_transition,
)
from execution.tables.runs import Run
from execution.usecases.idempotency import find_earlier_run, remember_run, request_digest
from execution.usecases.run_gates import ask_approval
from execution.usecases.run_subjects import Kind, Subject, check_input, find_subject
from execution.usecases.subscriptions import count_run
from execution.usecases.waits import close_waits
from execution.usecases.workspaces import require_taking_runs, retention_class
from pdp.request import Decision, RunContext
from resources.listing import Resource, counter, lister

Trigger = Literal["api", "cli", "mcp", "scheduled", "child", "fork"]

RUNS = Resource(
    Run,
    filters=(
        "id", "status", "execution_type", "workspace_id", "agent_id", "orchestration_id", "trigger_type",
        "triggered_by", "created_by", "created_at", "error_code", "stop_reason", "parent_run_id", "root_run_id",
        "cost_usd_micros", "semver", "config_digest",
    ),
    words={"status": RunStatus, "execution_type": get_args(Kind), "trigger_type": get_args(Trigger)},
    indexed={"status": (UNSUCCESSFUL, UNFINISHED)},
)  # fmt: skip
list_runs = lister(RUNS)
count_runs = counter(RUNS)
UNHELD = (RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.WAITING)
"""In these no worker holds the run: cancelling is done at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a caller asks to run; `reference` and `workspace` are ids or names."""

    kind: Kind
    reference: str
    input: Any
    workspace: str | None = None
    semver: str = "current"
    trigger_type: Trigger = "api"
    priority: int | None = None
    """Among the runs of the workspace that wait; None takes the definition's own."""
    schedule_id: UUID | None = None
    tick_at: datetime | None = None
    """Of a scheduled run: by which schedule, and for which of its ticks."""
    depth: int = 0
    """Of a child: how many runs are above it."""


async def start_run(
    uow: UnitOfWork, request: RunRequest, *, rules: Rules, objects: Objects, idempotency_key: str | None = None
) -> Run:
    """Queue a run, or return the one this Idempotency-Key already stands for.

    Where a rule requires it, the run waits for somebody's approval before it is queued.

    DeniedError (403) by a rule, InvalidError for an input that does not fit, LimitExceededError at the month's number;
    none of them leaves a run.
    """
    digest = request_digest(asdict(request)) if idempotency_key is not None else b""
    if idempotency_key is not None and (earlier := await find_earlier_run(uow, idempotency_key, digest)):
        return await uow.get(Run, earlier)
    subject = await find_subject(
        uow, request.kind, request.reference, workspace=request.workspace, semver=request.semver
    )
    run = await prepare_run(uow, subject, request, rules=rules, objects=objects)
    if idempotency_key is not None:
        await remember_run(uow, idempotency_key, digest, run.id)
    await uow.add(run)
    announce_run(uow, run)
    await count_run(uow)
    return run


async def prepare_run(uow: UnitOfWork, subject: Subject, request: RunRequest, *, rules: Rules, objects: Objects) -> Run:
    """The row of a run that may be queued, still to be added; only a large input is stored already.

    ConflictError `workspace_draining` for any but a child: that is a part of what has begun.
    """
    if request.trigger_type != "child":
        require_taking_runs(subject.workspace)
    check_input(subject, request.input)
    run_id, decision_id = new_id(), new_id()
    decision = decide_run(uow, subject, rules, request.trigger_type, depth=request.depth)
    inline, stored = await keep_payload(objects, uow.organization_id, run_id, request.input)
    run = _new_run(uow, subject, request, run_id, decision, decision_id)
    run.input, run.input_ref = inline, stored
    run.flow_group, run.pace_group = subject.groups(request.input)
    return run


def announce_run(uow: UnitOfWork, run: Run) -> None:
    """Publish that the run is queued, or waits for an approval before, and the decision about it."""
    if run.status == RunStatus.WAITING:
        ask_approval(uow, run)
    else:
        uow.emit(RunQueued.of(run, owner_id=run.created_by))
    record_decision(
        uow,
        run.decision,
        decision_id=run.decision_id,
        action=f"{run.execution_type}:execute",
        kind=run.execution_type,
        row_id=str(run.agent_id or run.orchestration_id),
        run_id=run.id,
    )


async def get_run(uow: UnitOfWork, run_id: UUID) -> Run:
    """The run."""
    return await uow.get(Run, run_id)


async def cancel_run(uow: UnitOfWork, run_id: UUID, *, reason: str, killed_by: UUID | None = None) -> Run:
    """Stop a run that has not finished; cancelling it again changes nothing.

    What nobody works on ends here and now; what a worker holds is `cancelling` until that worker has let go.
    `killed_by` is the kill switch that stopped what it is a part of.
    """
    run = await uow.get(Run, run_id, lock=True)
    present = RunStatus(run.status)
    if present in (RunStatus.CANCELLING, RunStatus.CANCELLED):
        return run
    wanted = RunStatus.CANCELLED if present in UNHELD else RunStatus.CANCELLING
    require_transition(present, wanted)
    run.status, run.cancel_requested_at, run.cancel_reason = wanted, uow.now, reason
    run.kill_switch_id, stop_reason = killed_by, StopReason.CANCELLED if killed_by is None else StopReason.KILLED
    run.updated_at, run.version = uow.now, run.version + 1
    uow.emit(RunCancelRequested.of(run, owner_id=run.created_by, reason=reason))
    if wanted is RunStatus.CANCELLED:
        if run.last_step:
            run.step_count += (await close_waits(uow, [run.id], stop_reason)).total()
        run.waiting_for, run.wake_at, run.stop_reason, run.completed_at = None, None, stop_reason, uow.now
        uow.emit(RunCancelled.of(run, owner_id=run.created_by))
    return run


def decide_run(
    uow: UnitOfWork, subject: Subject, rules: Rules, trigger: str, approved: Sequence[str] = (), *, depth: int = 0
) -> Decision:  # fmt: skip
    """Whether the caller may run it, at once or once somebody has approved; DeniedError otherwise."""
    action, row_id = f"{subject.kind}:execute", str(subject.definition.id)
    cost = subject.limits.max_cost_usd_micros
    context = RunContext(
        estimated_cost_usd=None if cost is None else cost / 1_000_000, depth=depth, trigger=trigger, model=subject.model
    )
    decision = decide_for(
        uow.caller,
        action,
        rules,
        resource_of(uow.caller, subject.kind, row_id, subject.attributes()),
        context,
        approved,
    )
    if not decision.is_allowed and decision.approval is None:
        raise DeniedError(decision, subject.kind, row_id, action)
    return decision


def _new_run(  # noqa: PLR0917
    uow: UnitOfWork, subject: Subject, request: RunRequest, run_id: UUID, decision: Decision, decision_id: UUID
) -> Run:
    caller, is_agent = uow.caller, subject.kind == "agent"
    is_gated = decision.approval is not None
    return Run(
        retention_class=retention_class(subject.workspace.retention_days),
        id=run_id,
        organization_id=uow.organization_id,
        workspace_id=subject.workspace.id,
        gateway_id=subject.workspace.gateway_id,
        execution_type=subject.kind,
        agent_id=subject.definition.id if is_agent else None,
        orchestration_id=None if is_agent else subject.definition.id,
        version_id=subject.version.id,
        semver=subject.version.semver,
        config_digest=subject.version.digest,
        pins=subject.pins,
        limits=asdict(subject.limits.tightened(Limits.of_decision(decision.limits()))),
        caller=caller.to_json(),
        created_by=caller.owner_id,
        triggered_by=f"api_key:{caller.id}" if caller.kind == "api_key" else caller.id,
        trigger_type=request.trigger_type,
        decision_id=decision_id,
        decision=told(decision),
        status=RunStatus.WAITING if is_gated else RunStatus.QUEUED,
        waiting_for=WaitingFor.APPROVAL if is_gated else None,
        waiting_since=uow.now if is_gated else None,
        priority=subject.flow.priority if request.priority is None else request.priority,
        queued_at=uow.now,
        step_count=0,
        input_tokens=0,
        output_tokens=0,
        cost_usd_micros=0,
        traceparent=caller.traceparent,
        correlation_id=caller.correlation_id,
        root_run_id=run_id,
        schedule_id=request.schedule_id,
        tick_at=request.tick_at,
        depth=request.depth,
        waited=timedelta(0),
        answers=0,
        plays_writes=False,
        token=0,
        last_step=0,
        takeovers=0,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
