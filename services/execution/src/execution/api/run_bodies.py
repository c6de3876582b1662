"""Bodies of runs and steps."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chassis.telemetry import trace_id
from execution.clients.objects import Objects, read_payload
from execution.tables.runs import Run
from execution.tables.steps import Step
from execution.usecases.explaining import Explanation
from execution.usecases.run_starts import RunRequest
from resources.bodies import In, Reference


class StartRunIn(In):
    """What to run: an agent or an orchestration by id or name, its workspace where the name is not enough, an input."""

    agent: Reference | None = None
    orchestration: Reference | None = None
    workspace: Reference | None = None
    version: Annotated[str, Field(max_length=64)] = "current"
    input: dict[str, Any] = {}
    trigger_type: Literal["api", "cli", "mcp"] = "api"
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.agent is None) == (self.orchestration is None):
            msg = "name either an agent or an orchestration"
            raise ValueError(msg)
        return self

    def request(self) -> RunRequest:
        """The same for the use case."""
        return RunRequest(
            kind="agent" if self.agent is not None else "orchestration",
            reference=self.agent or self.orchestration or "",
            workspace=self.workspace,
            semver=self.version,
            input=self.input,
            trigger_type=self.trigger_type,
            priority=self.priority,
        )


class CancelRunIn(In):
    """Why a run is stopped."""

    reason: Annotated[str, Field(max_length=500)] = ""


class RunSummaryOut(BaseModel):
    """A run without what went in and came out."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    gateway_id: UUID | None
    execution_type: str
    agent_id: UUID | None
    orchestration_id: UUID | None
    semver: str
    config_digest: str
    triggered_by: str
    trigger_type: str
    created_by: str
    status: str
    waiting_for: str | None
    priority: int
    error_code: str | None
    error_message: str | None
    stop_reason: str | None
    queued_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    step_count: int
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int
    parent_run_id: UUID | None
    root_run_id: UUID
    decision_id: UUID
    created_at: datetime


class RunOut(RunSummaryOut):
    """A run."""

    execution_time_ms: int | None = None
    trace_id: str | None = None
    limits: dict[str, Any]
    decision: dict[str, Any]
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    input: Any = None
    output: Any = None
    masked: list[str] = Field(default=[], description="What this caller may not be shown.")

    @classmethod
    async def of(cls, row: Run, objects: Objects, masked: tuple[str, ...]) -> Self:
        """The public form of a row, its payloads fetched from wherever they are."""
        out = cls.model_validate({name: getattr(row, name) for name in _COLUMNS})
        out.execution_time_ms = elapsed_ms(row.started_at, row.completed_at)
        out.trace_id = trace_id(row.traceparent) or None
        out.masked = list(masked)
        if "input" not in masked:
            out.input = await read_payload(row.input, row.input_ref, objects)
        if "output" not in masked:
            out.output = await read_payload(row.output, row.output_ref, objects)
        return out


_COLUMNS = tuple(
    name for name in RunOut.model_fields if name not in {"execution_time_ms", "trace_id", "input", "output", "masked"}
)


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


class ExplanationOut(BaseModel):
    """Execution's part of explaining a run; the edge adds what other services know."""

    run: RunOut
    trigger: dict[str, Any]
    caller: dict[str, Any]
    decision: dict[str, Any]
    approvals: list[dict[str, Any]]
    version: dict[str, Any]
    steps: list[StepOut]
    costs: list[dict[str, Any]]
    trace_id: str | None

    @classmethod
    async def of(cls, found: Explanation, objects: Objects, masked: tuple[str, ...]) -> Self:
        """The public form."""
        return cls(
            run=await RunOut.of(found.run, objects, masked),
            trigger=found.trigger,
            caller=found.run.caller,
            decision=found.decision,
            approvals=[],
            version=found.version,
            steps=[await StepOut.of(step, objects, masked) for step in found.steps],
            costs=found.costs,
            trace_id=found.trace_id,
        )


def elapsed_ms(start: datetime | None, end: datetime | None) -> int | None:
    """Milliseconds from start to end; None while there is no end."""
    return None if start is None or end is None else round((end - start).total_seconds() * 1000)
