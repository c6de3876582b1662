"""Routes of a run's steps: read, and decided by a person where nobody else knows what became of one."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, Field, model_validator

from chassis.http import Router, Uow
from chassis.objects import Objects, read_payload
from chassis.units import in_unit, permit_of
from execution.api import objects_of, wake_ups_of
from execution.domain.runs import Decided, elapsed_ms
from execution.tables.runs import Step
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


class StepOut(BaseModel):
    """One attempt at a step of a run."""

    id: UUID
    run_id: UUID
    step_number: int
    node: str
    iteration: int
    attempt: int
    kind: str
    effects: str
    agent_id: UUID | None
    agent_semver: str
    status: str
    error_code: str | None
    error_message: str | None
    will_retry: bool
    provider: str
    model_name: str
    price_version: str
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int
    started_at: datetime
    completed_at: datetime | None
    copied_from: UUID | None = Field(description="Of a fork: the step of the original whose output this is.")
    child_run_id: UUID | None = Field(description="Of a step that is a run of another orchestration: which.")
    execution_time_ms: int | None = None
    tokens_used: int = 0
    input: Any = None
    output: Any = None
    masked: list[str] = []

    @classmethod
    async def of(cls, row: Step, objects: Objects, masked: tuple[str, ...]) -> Self:
        """The public form of a row, its payloads fetched from wherever they are."""
        out = cls.model_validate({name: getattr(row, name) for name in _STEP_COLUMNS})
        out.execution_time_ms = elapsed_ms(row.started_at, row.completed_at)
        out.tokens_used = row.input_tokens + row.output_tokens
        out.masked = list(masked)
        if "input" not in masked:
            out.input = await read_payload(row.input, row.input_ref, objects)
        if "output" not in masked:
            out.output = await read_payload(row.output, row.output_ref, objects)
        return out


_STEP_COLUMNS = tuple(
    name
    for name in StepOut.model_fields
    if name not in {"execution_time_ms", "tokens_used", "input", "output", "masked"}
)


class StepsOut(BaseModel):
    """All attempts at all steps of a run, in the order they were started."""

    items: list[StepOut]


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
    wake_ups_of(request).queued()
    return await StepOut.of(step, objects, permit_of(request).masked)
