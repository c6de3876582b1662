"""What evaluations came to: runs that are over are judged, once, and the results outlive them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, select

from chassis.errors import NotFoundError, UnavailableError
from chassis.objects import Objects, read_payload
from chassis.uow import UnitOfWork
from contracts.releases import EvaluationCompleted
from execution.domain.evals import Eval, Judged, Verdict, evals_of, judge
from execution.domain.runs import FINAL
from execution.tables.agents import AgentVersion
from execution.tables.evaluations import Evaluation, EvaluationResult
from execution.tables.runs import Run
from execution.usecases.agent_versions import get_agent_version
from resources.listing import ListQuery, Page, Resource, lister
from resources.patches import touch

EVALUATIONS = Resource(Evaluation, filters=("id", "created_by", "created_at", "completed_at"))
_list_evaluations = lister(EVALUATIONS)
EVALUATIONS_AT_ONCE = 50
_ITS_RUN = (Run.retention_class == EvaluationResult.retention_class) & (Run.id == EvaluationResult.run_id)


class Due(NamedTuple):
    """An evaluation of which a run is over."""

    organization_id: UUID
    id: UUID


class Case(NamedTuple):
    """One eval as it stands: its result, and the run's present status."""

    result: EvaluationResult
    status: str | None
    """None for a run that is gone."""


async def get_evaluation(
    uow: UnitOfWork, agent_id: UUID, semver: str, evaluation_id: UUID
) -> tuple[Evaluation, list[Case]]:
    """An evaluation of this version with each of its evals, in the version's order."""
    version = await get_agent_version(uow, agent_id, semver)
    evaluation = await uow.get(Evaluation, evaluation_id)
    if evaluation.agent_version_id != version.id:
        raise NotFoundError("There is no evaluation with this id.")
    return evaluation, await cases_of(uow, evaluation)


async def list_evaluations(uow: UnitOfWork, agent_id: UUID, semver: str, query: ListQuery) -> Page:
    """The evaluations of one version, the newest first."""
    version = await get_agent_version(uow, agent_id, semver)
    return await _list_evaluations(uow, query, agent_version_id=version.id)


async def cases_of(uow: UnitOfWork, evaluation: Evaluation) -> list[Case]:
    """Each eval of an evaluation as it stands."""
    statement = select(EvaluationResult, Run.status).outerjoin(Run, _ITS_RUN).where(*_of(evaluation))
    rows = await uow.execute(statement.order_by(EvaluationResult.position))
    return [Case(result, result.status or status) for result, status in rows]


async def find_due(uow: UnitOfWork) -> list[Due]:
    """Evaluations of all organizations of which a run is over and not judged yet."""
    rows = await uow.fetch("select organization_id, id from due_evaluations($1)", EVALUATIONS_AT_ONCE)
    return [Due(row["organization_id"], row["id"]) for row in rows]


async def judge_evaluation(uow: UnitOfWork, evaluation_id: UUID, *, objects: Objects) -> Evaluation | None:
    """Judge what is over; None where another process is doing it. With the last eval the evaluation is complete."""
    locked = select(Evaluation).where(Evaluation.id == evaluation_id).with_for_update(skip_locked=True)
    evaluation: Evaluation | None = await uow.first(locked)
    if evaluation is None or evaluation.completed_at is not None:
        return None
    version = await uow.get(AgentVersion, evaluation.agent_version_id)
    cases, statement = evals_of(version.config), select(EvaluationResult, Run).outerjoin(Run, _ITS_RUN)
    is_over = Run.id.is_(None) | Run.status.in_(FINAL)
    over = await uow.execute(statement.where(*_of(evaluation), EvaluationResult.verdict.is_(None), is_over))
    for result, run in over:
        judged = await _judged(cases[result.position], run, objects)
        result.status, result.verdict, result.error_code = run.status if run else None, *judged
        touch(uow, result)
    _count(uow, evaluation, Counter(result.verdict for result, _ in over))
    return evaluation


async def _judged(case: Eval, run: Run | None, objects: Objects) -> Judged:
    if run is None:
        return Judged(Verdict.ERROR, "run_gone")
    try:
        output = await read_payload(run.output, run.output_ref, objects)
    except UnavailableError as error:
        if error.code != "object_missing":
            raise
        return Judged(Verdict.ERROR, error.code)
    return judge(case, run.status, output, run.error_code or run.stop_reason)


def _count(uow: UnitOfWork, evaluation: Evaluation, judged: Counter[str]) -> None:
    evaluation.passed_count += judged[Verdict.TRUE]
    evaluation.failed_count += judged[Verdict.FALSE]
    evaluation.error_count += judged[Verdict.ERROR]
    touch(uow, evaluation)
    if evaluation.passed_count + evaluation.failed_count + evaluation.error_count == evaluation.eval_count:
        evaluation.completed_at = uow.now
        uow.emit(EvaluationCompleted.of(evaluation))


def _of(evaluation: Evaluation) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """What narrows results to those of one evaluation."""
    mine = EvaluationResult.organization_id == evaluation.organization_id
    return mine, EvaluationResult.evaluation_id == evaluation.id
