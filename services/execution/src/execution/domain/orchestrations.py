"""What an orchestration is made of, by pattern: steps one after the other, or branches side by side."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from execution.domain.graph import DEFAULT_MAX_STEPS, MAX_STEPS
from execution.domain.nodes import MAX_BRANCHES
from execution.domain.runs import Limits
from execution.domain.shapes import MAX_TOKENS, Alias, Duration, Name, NodeId, Retry, Shape, UsdMicros, Version

MAX_SEQUENCE = 200
MAX_DEPTH = 10
DEFAULT_MAX_DEPTH = 3
MERGE = "merge"


class AgentReference(Shape):
    """Which agent an alias stands for, in a file that is applied."""

    name: Name
    version: Literal["current"] | Version = "current"


class OrchestrationLimits(Shape):
    """The most one run of an orchestration, with its children, may use."""

    max_cost_usd: UsdMicros | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = DEFAULT_MAX_STEPS
    timeout: Duration | None = None
    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = DEFAULT_MAX_DEPTH

    def limits(self) -> Limits:
        """The same as the engine's limits."""
        return Limits(
            max_cost_usd_micros=self.max_cost_usd,
            max_tokens=self.max_tokens,
            max_steps=self.max_steps,
            max_depth=self.max_depth,
            timeout_seconds=self.timeout,
        )


class Defaults(Shape):
    """What steps and agents that say nothing themselves get."""

    retry: Retry | None = None
    step_timeout: Duration | None = None


class Flow(Shape):
    """How runs are admitted: a higher priority goes first."""

    priority: Annotated[int, Field(ge=-100, le=100)] = 0


class StepShape(Shape):
    """An agent to run; without `in` it receives what came before it."""

    agent: Alias
    input: Annotated[Any, Field(alias="in")] = None
    retry: Retry | None = None
    timeout: Duration | None = None

    @property
    def has_input(self) -> bool:
        """Whether the step says what it receives."""
        return "input" in self.model_fields_set


class NamedStep(StepShape):
    """A step that others can refer to: `${steps.<id>.output}`."""

    id: NodeId


class Join(Shape):
    """How many branches must succeed, and what one that fails does to the others."""

    mode: Literal["all", "any", "quorum"] = "all"
    quorum: Annotated[int, Field(ge=1, le=MAX_BRANCHES)] | None = None
    on_branch_error: Literal["fail", "skip"] = "fail"

    @model_validator(mode="after")
    def _quorum_fits(self) -> Self:
        if (self.mode == "quorum") != (self.quorum is not None):
            raise ValueError("quorum belongs to the mode quorum, which needs it")
        return self


class OrchestrationShape(Shape):
    """What orchestrations of every pattern may say."""

    api_version: Annotated[Literal["orchestration/v1"], Field(alias="apiVersion")]
    input_schema: dict[str, Any] | None = None
    limits: OrchestrationLimits = OrchestrationLimits()
    defaults: Defaults = Defaults()
    flow: Flow = Flow()


class Sequential(OrchestrationShape):
    """Steps one after the other; the output is the last step's."""

    pattern: Literal["sequential"]
    steps: Annotated[list[NamedStep], Field(min_length=1, max_length=MAX_SEQUENCE)]


class Parallel(OrchestrationShape):
    """Branches side by side on the same input; the output is the merge's, else `{branch: output}`."""

    pattern: Literal["parallel"]
    branches: Annotated[list[NamedStep], Field(min_length=1, max_length=MAX_BRANCHES)]
    join: Join = Join()
    merge: StepShape | None = None


OrchestrationSpec: TypeAlias = Sequential | Parallel
PATTERNS: dict[str, type[OrchestrationSpec]] = {"sequential": Sequential, "parallel": Parallel}
LATER_PATTERNS = ("router", "supervisor", "map_reduce", "loop_until", "handoff", "approval", "graph")
LATER_ORCHESTRATION_PARTS: tuple[tuple[str, ...], ...] = (("flow", "concurrency"), ("on_failure",))
