"""Evaluations: every eval of an agent's version becomes an ordinary run; what came of them is in the results."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import ConflictError, LimitExceededError
from chassis.ids import new_id
from chassis.objects import Objects
from chassis.rules import Rules
from chassis.uow import UnitOfWork
from contracts.releases import EvaluationStarted
from execution.domain.evals import Eval, evals_of
from execution.tables.evaluations import Evaluation, EvaluationResult
from execution.usecases.agent_versions import get_agent_version
from execution.usecases.idempotency import find_earlier_run, remember_run, request_digest
from execution.usecases.run_subjects import find_subject
from execution.usecases.runs import RunRequest, announce_run, prepare_run
from execution.usecases.subscriptions import count_runs

MAX_OPEN = 20
"""Evaluations of one organization that are under way at once."""


async def evaluate_agent_version(
    uow: UnitOfWork,
    agent_id: UUID,
    semver: str,
    *,
    rules: Rules,
    objects: Objects,
    idempotency_key: str | None = None,
) -> Evaluation:
    """Start one run for each eval of a version: all of them, or none.

    Each is decided on, limited, counted and paid as any run. ConflictError `no_evals` for a version without,
    DeniedError by a rule, LimitExceededError at the month's number of runs or the number of evaluations under way.
    """
    # A new run is the caller's own; the organization's rules about starting runs are asked as for any.
    uow.permit.check("run", "", {"created_by": uow.caller.owner_id})
    version = await get_agent_version(uow, agent_id, semver)
    digest = request_digest({"evaluate": version.id}) if idempotency_key is not None else b""
    if idempotency_key is not None and (earlier := await find_earlier_run(uow, idempotency_key, digest)):
        return await _evaluation_of(uow, earlier)
    cases = evals_of(version.config)
    if not cases:
        raise ConflictError(f"Version {version.semver} of this agent has no evals.", code="no_evals")
    await _require_room(uow)
    subject = await find_subject(uow, "agent", str(agent_id), workspace=None, semver=version.semver)
    asked = [_request(agent_id, version.semver, case) for case in cases]
    runs = [await prepare_run(uow, subject, request, rules=rules, objects=objects) for request in asked]
    if await count_runs(uow, len(runs)) < len(runs):
        raise LimitExceededError("Your plan allows no more runs this month.", code="max_executions_per_month")
    evaluation = _new_evaluation(uow, agent_id, version.id, version.semver, version.workspace_id, len(cases))
    if idempotency_key is not None:
        await remember_run(uow, idempotency_key, digest, runs[0].id)
    await uow.add_all(runs)
    for run in runs:
        announce_run(uow, run)
    await uow.add(evaluation)
    found = [(case.name, run.id, run.retention_class) for case, run in zip(cases, runs, strict=True)]
    await uow.add_all([_new_result(uow, evaluation, at, *each) for at, each in enumerate(found)])
    uow.emit(EvaluationStarted.of(evaluation))
    return evaluation


async def _evaluation_of(uow: UnitOfWork, run_id: UUID) -> Evaluation:
    mine = (EvaluationResult.organization_id == uow.organization_id) & (EvaluationResult.run_id == run_id)
    found: UUID = await uow.first(select(EvaluationResult.evaluation_id).where(mine))
    return await uow.get(Evaluation, found)


def _request(agent_id: UUID, semver: str, case: Eval) -> RunRequest:
    return RunRequest(kind="agent", reference=str(agent_id), input=case.input, semver=semver)


def _new_evaluation(  # noqa: PLR0917
    uow: UnitOfWork, agent_id: UUID, version_id: UUID, semver: str, workspace_id: UUID, count: int
) -> Evaluation:
    return Evaluation(
        id=new_id(),
        organization_id=uow.organization_id,
        workspace_id=workspace_id,
        agent_id=agent_id,
        agent_version_id=version_id,
        semver=semver,
        created_by=uow.caller.owner_id,
        eval_count=count,
        passed_count=0,
        failed_count=0,
        error_count=0,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )


def _new_result(  # noqa: PLR0917
    uow: UnitOfWork, evaluation: Evaluation, position: int, name: str, run_id: UUID, retention_class: int
) -> EvaluationResult:
    return EvaluationResult(
        id=new_id(),
        organization_id=uow.organization_id,
        evaluation_id=evaluation.id,
        position=position,
        name=name,
        run_id=run_id,
        retention_class=retention_class,
        error_code="",
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )


async def _require_room(uow: UnitOfWork) -> None:
    """Two that arrive together must not both take the last place."""
    name = f"evaluation/{uow.organization_id}"
    await uow.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    still_open = (Evaluation.organization_id == uow.organization_id) & Evaluation.completed_at.is_(None)
    if await uow.first(select(func.count()).where(still_open)) >= MAX_OPEN:
        raise LimitExceededError(f"{MAX_OPEN} evaluations are under way already.", code="too_many_evaluations")
