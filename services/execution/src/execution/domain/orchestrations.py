"""What an orchestration is made of, by pattern."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from execution.domain.graph import DEFAULT_MAX_STEPS, MAX_STEPS
from execution.domain.nodes import MAX_BRANCHES, MAX_CONCURRENCY, MAX_ITEMS, MAX_ITERATIONS
from execution.domain.runs import Limits
from execution.domain.shapes import MAX_TOKENS, Alias, Duration, Name, NodeId, Retry, Shape, UsdMicros, Version

MAX_SEQUENCE = 200
MAX_DEPTH = 10
DEFAULT_MAX_DEPTH = 3
MAX_RULE_CHARACTERS = 400
"""Less than an expression may have: a router compares it with each of its routes."""
MERGE = "merge"
CLASSIFY, OTHERWISE = "classify", "otherwise"
MAP, REDUCE = "map", "reduce"
BODY, JUDGE = "body", "judge"


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


class Work(Shape):
    """How an agent is run; without `in` it receives what came before it."""

    input: Annotated[Any, Field(alias="in")] = None
    retry: Retry | None = None
    timeout: Duration | None = None

    @property
    def has_input(self) -> bool:
        """Whether the step says what it receives."""
        return "input" in self.model_fields_set


class StepShape(Work):
    """An agent to run."""

    agent: Alias


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


Rule = Annotated[str, Field(min_length=1, max_length=MAX_RULE_CHARACTERS)]


class Chooser(Work):
    """What decides how a run goes on: an expression, or an agent by a word of its output."""

    agent: Alias | None = None
    expr: Rule | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.agent is None) == (self.expr is None):
            raise ValueError("it is either agent or expr")
        if self.agent is None and len(self.model_fields_set) > 1:
            raise ValueError("in, retry and timeout belong to an agent")
        return self


class Classifier(Chooser):
    """What names the route: an expression whose value is the name, or an agent whose output has it as `route`."""


class Router(OrchestrationShape):
    """One of several agents, by what the classifier says; the output is that agent's."""

    pattern: Literal["router"]
    classifier: Classifier
    routes: Annotated[dict[NodeId, StepShape], Field(min_length=1, max_length=MAX_BRANCHES)]
    otherwise: StepShape | None = None


class MapReduce(OrchestrationShape):
    """An agent once per item of a list, some at a time; the output is the reducer's, else the list of outputs."""

    pattern: Literal["map_reduce"]
    over: Annotated[str, Field(min_length=4)]
    item_name: Annotated[NodeId, Field(alias="as")] = "item"
    map: StepShape
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 8
    max_items: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = MAX_ITEMS
    item_error: Literal["fail", "skip"] = "fail"
    reduce: StepShape | None = None


class Judge(Chooser):
    """What says that a loop is done: an expression that becomes true, or an agent whose output says so as `done`."""


class LoopUntil(OrchestrationShape):
    """An agent again and again on its own output until the judge says that it is done; the output is its last."""

    pattern: Literal["loop_until"]
    body: StepShape
    judge: Judge
    max_iterations: Annotated[int, Field(ge=1, le=MAX_ITERATIONS)]
    on_exhausted: Literal["fail", "return_best"] = "fail"
    """`return_best` gives what the last time round gave, which was built on all before."""


OrchestrationSpec: TypeAlias = Sequential | Parallel | Router | MapReduce | LoopUntil
PATTERNS: dict[str, type[OrchestrationSpec]] = {
    "sequential": Sequential,
    "parallel": Parallel,
    "router": Router,
    "map_reduce": MapReduce,
    "loop_until": LoopUntil,
}
LATER_PATTERNS = ("supervisor", "handoff", "approval", "graph")
LATER_ORCHESTRATION_PARTS: tuple[tuple[str, ...], ...] = (
    ("flow", "concurrency"), ("on_failure",), ("reduce", "fan_in"),
)  # fmt: skip
