"""Routes of a run's steps: read, and decided by a person where nobody else knows what became of one."""

from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Request
from pydantic import Field, model_validator

from chassis.http import Router, Uow
from chassis.units import in_unit, permit_of
from execution.api.run_bodies import StepOut, StepsOut
from execution.api.runs import objects_of, signals_of
from execution.domain.runs import Decided
from execution.usecases import steps
from execution.usecases.steps import StepDecision
from resources.bodies import In

router = Router("step", prefix="/v1/runs/{run_id}/steps")


class DecideStepIn(In):
    """What became of a write that was tried: `completed` with its output, `failed`, or `retry`."""

    outcome: Decided
    output: Any = None
    reason: Annotated[str, Field(max_length=500)] = ""

    @model_validator(mode="after")
    def _output_of_what_happened(self) -> Self:
        if self.outcome is not Decided.COMPLETED and self.output is not None:
            raise ValueError("only what is completed has an output")
        return self


@router.get("", permission="step:read")
async def list_steps(request: Request, uow: Uow, run_id: UUID) -> StepsOut:
    """Every attempt at every step of a run."""
    objects, masked = objects_of(request), uow.permit.masked
    return StepsOut(items=[await StepOut.of(step, objects, masked) for step in await steps.list_steps(uow, run_id)])


@router.post("/{step_id}/decide", permission="step:decide")
async def decide_step(request: Request, run_id: UUID, step_id: UUID, body: DecideStepIn) -> StepOut:
    """Say what became of a write that a crash left unknown; with the last of them the run goes on."""
    decision, objects = StepDecision(body.outcome, body.output, body.reason), objects_of(request)
    step = await in_unit(request, lambda uow: steps.decide_step(uow, run_id, step_id, decision, objects=objects))
    signals_of(request).queued()
    return await StepOut.of(step, objects, permit_of(request).masked)
