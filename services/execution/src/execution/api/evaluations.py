"""Routes of evaluations: a version's evals run, and what came of each."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from chassis.units import in_unit, rules_of
from execution.api import objects_of, wake_ups_of
from execution.tables.evaluations import Evaluation
from execution.usecases import evaluation_results, evaluations
from execution.usecases.evaluation_results import Case
from resources.http import Listing
from resources.listing import ListQuery

router = Router("agent", prefix="/v1/agents")


class EvaluationSummaryOut(BaseModel):
    """An evaluation of a version; the counts are of what is judged already."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    agent_id: UUID
    agent_version_id: UUID
    semver: str
    created_by: str
    created_at: datetime
    completed_at: datetime | None = Field(description="null while a run of it is not over.")
    eval_count: int
    passed_count: int
    failed_count: int
    error_count: int


class EvaluationResultOut(BaseModel):
    """One eval: the run that answers it, and what came of it."""

    name: str
    run_id: UUID
    status: str | None = Field(description="The run's; null where the run is gone.")
    verdict: Literal["true", "false", "error"] | None = Field(description="null until the run is over.")
    error_code: str

    @classmethod
    def of(cls, case: Case) -> Self:
        """The public form of an eval as it stands."""
        row = case.result
        fields = {"name": row.name, "run_id": row.run_id, "verdict": row.verdict, "error_code": row.error_code}
        return cls.model_validate({**fields, "status": case.status})


class EvaluationOut(EvaluationSummaryOut):
    """An evaluation of a version with each of its evals."""

    results: list[EvaluationResultOut] = []

    @classmethod
    def of(cls, row: Evaluation, cases: list[Case]) -> Self:
        """The public form of a row and its results."""
        out = cls.model_validate(row)
        out.results = [EvaluationResultOut.of(case) for case in cases]
        return out


EVALUATION_LIST = Listing(evaluation_results.EVALUATIONS, EvaluationSummaryOut)
IdempotencyKey = Annotated[str | None, Header(description="The same key evaluates a version once in 24 hours.")]


@router.post("/{agent_id}/versions/{semver}/evaluate", permission="run:create", status=202)
async def evaluate_agent_version(
    request: Request, response: Response, agent_id: UUID, semver: str, idempotency_key: IdempotencyKey = None
) -> EvaluationSummaryOut:
    """Start a run for each eval of a revision. Answers 202 with the Location that tells what comes of each."""
    rules, objects = await rules_of(request), objects_of(request)

    made = await in_unit(
        request,
        lambda uow: evaluations.evaluate_agent_version(
            uow, agent_id, semver, rules=rules, objects=objects, idempotency_key=idempotency_key
        ),
    )
    wake_ups_of(request).queued()
    response.headers["Location"] = f"/v1/agents/{agent_id}/versions/{made.semver}/evaluations/{made.id}"
    return EvaluationSummaryOut.model_validate(made)


@router.get("/{agent_id}/versions/{semver}/evaluations", permission="agent:read", **EVALUATION_LIST.options)
async def list_evaluations(
    uow: Uow, agent_id: UUID, semver: str, query: Annotated[ListQuery, Depends(EVALUATION_LIST.query)]
) -> Response:
    """The evaluations of a revision, the newest first."""
    return EVALUATION_LIST.answer(await evaluation_results.list_evaluations(uow, agent_id, semver, query))


@router.get("/{agent_id}/versions/{semver}/evaluations/{evaluation_id}", permission="agent:read")
async def get_evaluation(uow: Uow, agent_id: UUID, semver: str, evaluation_id: UUID) -> EvaluationOut:
    """An evaluation of a revision: each eval's run, its status and the verdict about its output."""
    return EvaluationOut.of(*await evaluation_results.get_evaluation(uow, agent_id, semver, evaluation_id))
