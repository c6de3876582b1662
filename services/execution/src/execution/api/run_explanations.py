"""The route that explains a run: execution's part of it; the edge adds what other services know."""

from typing import Any, Self
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel

from chassis.http import Router, Uow
from chassis.objects import Objects
from execution.api import objects_of
from execution.api.runs import RunOut, RunSummaryOut
from execution.api.steps import StepOut
from execution.usecases import explaining
from execution.usecases.explaining import Explanation
from execution.usecases.hindrances import told_of

router = Router("run", prefix="/v1/runs")


class ExplanationOut(BaseModel):
    """Execution's part of explaining a run; the edge adds what other services know."""

    run: RunOut
    trigger: dict[str, Any]
    caller: dict[str, Any]
    decision: dict[str, Any]
    version: dict[str, Any]
    steps: list[StepOut]
    costs: list[dict[str, Any]]
    children: list[RunSummaryOut]
    trace_id: str | None

    @classmethod
    async def of(cls, found: Explanation, objects: Objects, masked: tuple[str, ...]) -> Self:
        """The public form."""
        run = await RunOut.of(found.run, objects, masked)
        run.hindrance = told_of(found.hindrance)
        return cls(
            run=run,
            trigger=found.trigger,
            caller=found.run.caller,
            decision=found.decision,
            version=found.version,
            steps=[await StepOut.of(step, objects, masked) for step in found.steps],
            costs=found.costs,
            children=[RunSummaryOut.model_validate(child) for child in found.children],
            trace_id=found.trace_id,
        )


@router.get("/{run_id}/explain", permission="run:read")
async def explain_run(request: Request, uow: Uow, run_id: UUID) -> ExplanationOut:
    """Who asked, which rule allowed it, what exactly ran, what it did and what it cost."""
    objects = objects_of(request)
    found = await explaining.explain_run(uow, run_id, objects=objects)
    return await ExplanationOut.of(found, objects, uow.permit.masked)
