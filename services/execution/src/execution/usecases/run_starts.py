"""Starting a run: found, allowed, counted, queued, in one transaction. The engine's admission does the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from chassis.ids import new_id
from chassis.rules import DeniedError, Rules, decide_for, resource_of
from chassis.uow import UnitOfWork
from contracts.execution import RunQueued
from contracts.policy import ExecutionDecisionRecorded
from execution.clients.objects import Objects, keep_payload
from execution.domain.quantities import usd_to_micros
from execution.domain.runs import Limits, RunStatus
from execution.tables.runs import Run
from execution.usecases.idempotency import find_earlier_run, remember_run, request_digest
from execution.usecases.revisions import CURRENT
from execution.usecases.run_subjects import Kind, Subject, check_input, find_subject
from execution.usecases.subscriptions import count_run
from execution.usecases.workspaces import retention_class
from pdp.request import Decision, RunContext

Trigger = Literal["api", "cli", "mcp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a caller asks to run; `reference` and `workspace` are ids or names."""

    kind: Kind
    reference: str
    input: Any
    workspace: str | None = None
    semver: str = CURRENT
    trigger_type: Trigger = "api"
    priority: int | None = None
    """Among the runs of the workspace that wait; None takes the definition's own."""


async def start_run(
    uow: UnitOfWork, request: RunRequest, *, rules: Rules, objects: Objects, idempotency_key: str | None = None
) -> Run:
    """Queue a run, or return the one this Idempotency-Key already stands for.

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
    """The row of a run that may be queued, still to be added; only a large input is stored already."""
    check_input(subject, request.input)
    run_id, decision_id = new_id(), new_id()
    decision = _decide(uow, subject, rules, request.trigger_type)
    inline, stored = await keep_payload(objects, uow.organization_id, run_id, request.input)
    run = _new_run(uow, subject, request, run_id, decision, decision_id)
    run.input, run.input_ref = inline, stored
    return run


def limits_of(decision: Decision) -> Limits:
    """The caps that a decision's obligations put on a run."""
    limits = decision.limits()

    def whole(name: str) -> int | None:
        return int(limits[name]) if name in limits else None

    cost = limits.get("run.max_cost_usd")
    return Limits(
        max_cost_usd_micros=None if cost is None else usd_to_micros(Decimal(str(cost))),
        max_tokens=whole("run.max_tokens"),
        max_steps=whole("run.max_steps"),
        max_depth=whole("run.max_depth"),
        timeout_seconds=limits.get("run.timeout_seconds"),
    )


def _decide(uow: UnitOfWork, subject: Subject, rules: Rules, trigger: str) -> Decision:
    action, row_id = f"{subject.kind}:execute", str(subject.definition.id)
    cost = subject.limits.max_cost_usd_micros
    context = RunContext(
        estimated_cost_usd=None if cost is None else cost / 1_000_000, depth=0, trigger=trigger, model=subject.model
    )
    decision = decide_for(
        uow.caller, action, rules, resource_of(uow.caller, subject.kind, row_id, subject.attributes()), context
    )
    if not decision.is_allowed:
        raise DeniedError(decision, subject.kind, row_id, action)
    return decision


def _new_run(  # noqa: PLR0917
    uow: UnitOfWork, subject: Subject, request: RunRequest, run_id: UUID, decision: Decision, decision_id: UUID
) -> Run:
    caller, is_agent = uow.caller, subject.kind == "agent"
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
        limits=asdict(subject.limits.tightened(limits_of(decision))),
        caller={
            "kind": caller.kind,
            "id": caller.id,
            "user_id": str(caller.user_id) if caller.user_id else None,
            "roles": sorted(caller.roles),
            "scopes": sorted(caller.scopes),
        },
        created_by=caller.owner_id,
        triggered_by=f"api_key:{caller.id}" if caller.kind == "api_key" else caller.id,
        trigger_type=request.trigger_type,
        decision_id=decision_id,
        decision=_stored(decision),
        status=RunStatus.QUEUED,
        priority=subject.priority if request.priority is None else request.priority,
        queued_at=uow.now,
        step_count=0,
        input_tokens=0,
        output_tokens=0,
        cost_usd_micros=0,
        traceparent=caller.traceparent,
        correlation_id=caller.correlation_id,
        root_run_id=run_id,
        depth=0,
        token=0,
        last_step=0,
        takeovers=0,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )


def _stored(decision: Decision) -> dict[str, Any]:
    return {
        "effect": decision.effect,
        "rule_name": decision.rule_name,
        "policy_id": decision.policy_id,
        "bundle_revision": decision.bundle_revision,
        "reason": decision.reason,
        "obligations": [dict(obligation) for obligation in decision.obligations],
        "error": decision.error,
    }


def announce_run(uow: UnitOfWork, run: Run) -> None:
    """Publish that the run is queued, and the decision that allowed it."""
    uow.emit(
        RunQueued(
            run_id=run.id,
            workspace_id=run.workspace_id,
            owner_id=run.created_by,
            execution_type=run.execution_type,
            agent_id=run.agent_id,
            orchestration_id=run.orchestration_id,
            semver=run.semver,
            config_digest=run.config_digest,
            trigger_type=run.trigger_type,
            triggered_by=run.triggered_by,
            decision_id=run.decision_id,
            root_run_id=run.root_run_id,
        )
    )
    uow.emit(
        ExecutionDecisionRecorded(
            decision_id=run.decision_id,
            action=f"{run.execution_type}:execute",
            resource_type=run.execution_type,
            resource_id=str(run.agent_id or run.orchestration_id),
            principal_type=uow.caller.kind,
            principal_id=uow.caller.id,
            owner_id=uow.caller.owner_id,
            run_id=run.id,
            **run.decision,
        )
    )
