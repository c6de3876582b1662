"""What an orchestration is made of, by pattern."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from execution.domain.flows import Flow
from execution.domain.graph import DEFAULT_MAX_STEPS, MAX_STEPS
from execution.domain.nodes import (
    MAX_BRANCHES,
    MAX_CONCURRENCY,
    MAX_EDGES,
    MAX_FAN_IN,
    MAX_ITEMS,
    MAX_ITERATIONS,
)
from execution.domain.runs import Limits
from execution.domain.shapes import MAX_TOKENS, Alias, Duration, Name, NodeId, Retry, Shape, UsdMicros, Version
from execution.domain.steps import AnyStep, ApprovalAsk, Compensation, NamedStep, Rule, StepShape, Work

MAX_SEQUENCE = 200
MAX_COMPENSATIONS = 50
MAX_DEPTH = 10
DEFAULT_MAX_DEPTH = 3
MERGE = "merge"
CLASSIFY, OTHERWISE = "classify", "otherwise"
MAP, REDUCE = "map", "reduce"
BODY, JUDGE = "body", "judge"
SUPERVISE = "supervise"
UNDO = "undo_"
APPROVE, ACT = "approve", "act"
DEFAULT_ROUNDS, DEFAULT_HANDOFFS = 8, 6


class AgentReference(Shape):
    """Which agent an alias stands for, in a file that is applied."""

    name: Name
    version: Literal["current"] | Version = "current"


class OrchestrationReference(AgentReference):
    """Which orchestration an alias stands for, in a file that is applied."""


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


class OnFailure(Shape):
    """What happens when a run fails by one of its steps: those that had completed are undone, the last one first."""

    compensate: Annotated[list[Compensation], Field(max_length=MAX_COMPENSATIONS)] = []


class OrchestrationShape(Shape):
    """What orchestrations of every pattern may say."""

    api_version: Annotated[Literal["orchestration/v1"], Field(alias="apiVersion")]
    input_schema: dict[str, Any] | None = None
    limits: OrchestrationLimits = OrchestrationLimits()
    defaults: Defaults = Defaults()
    flow: Flow = Flow()
    on_failure: OnFailure | None = None


class Sequential(OrchestrationShape):
    """Steps one after the other; the output is the last step's."""

    pattern: Literal["sequential"]
    steps: Annotated[list[AnyStep], Field(min_length=1, max_length=MAX_SEQUENCE)]


class Parallel(OrchestrationShape):
    """Branches side by side on the same input; the output is the merge's, else `{branch: output}`."""

    pattern: Literal["parallel"]
    branches: Annotated[list[NamedStep], Field(min_length=1, max_length=MAX_BRANCHES)]
    join: Join = Join()
    merge: StepShape | None = None


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


class Reduce(StepShape):
    """An agent that makes one of all outputs; with `fan_in` of so many at a time, and again of what those gave."""

    fan_in: Annotated[int, Field(ge=2, le=MAX_FAN_IN)] | None = None


class MapReduce(OrchestrationShape):
    """An agent once per item of a list, some at a time; the output is the reducer's, else the list of outputs."""

    pattern: Literal["map_reduce"]
    over: Annotated[str, Field(min_length=4)]
    item_name: Annotated[NodeId, Field(alias="as")] = "item"
    map: StepShape
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 8
    max_items: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = MAX_ITEMS
    item_error: Literal["fail", "skip"] = "fail"
    reduce: Reduce | None = None


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


class Supervisor(OrchestrationShape):
    """An agent that gives work to others, round after round, until it says that it is done or a rule does.

    It gets `{input, workers, history}` and answers `{worker, task}` or `{done: true, ...}`; a worker gets the task.
    The output is the supervisor's last answer, or the worker's after which the rule held.
    """

    pattern: Literal["supervisor"]
    supervisor: Alias
    workers: Annotated[list[NodeId], Field(min_length=1, max_length=MAX_BRANCHES)]
    max_rounds: Annotated[int, Field(ge=1, le=MAX_ITERATIONS)] = DEFAULT_ROUNDS
    stop_when: Rule | None = None


class Handoff(OrchestrationShape):
    """Agents that pass a run on: whoever answers `{handoff: <alias>}` gives it to one that its edges allow.

    Each gets `{input, history}`, or with `context: summary` `{input, previous}`: only what the last one said. The
    output is that of the first that passes it on to nobody.
    """

    pattern: Literal["handoff"]
    start: NodeId
    edges: Annotated[
        dict[NodeId, Annotated[list[NodeId], Field(max_length=MAX_BRANCHES)]], Field(max_length=MAX_BRANCHES)
    ]
    max_handoffs: Annotated[int, Field(ge=1, lt=MAX_ITERATIONS)] = DEFAULT_HANDOFFS
    context: Literal["full", "summary"] = "full"

    @property
    def agents(self) -> list[str]:
        """Every agent that may get the run, the first one first."""
        return list(
            dict.fromkeys([self.start, *self.edges, *(to for targets in self.edges.values() for to in targets)])
        )


class Approval(OrchestrationShape, ApprovalAsk):
    """An agent that acts only once a person has approved; it gets the run's input."""

    pattern: Literal["approval"]
    before: StepShape


class GraphEdge(Shape):
    """One node comes after another, where the rule holds once that has ended."""

    source: Annotated[NodeId, Field(alias="from")]
    target: Annotated[NodeId, Field(alias="to")]
    when: Rule | None = None


class GraphPattern(OrchestrationShape):
    """Nodes and the edges between them: each starts once all before it have ended and an edge to it is taken.

    Without `in` a node gets what came along the one edge that was taken, or `{node: output}` of several. The output is
    that of the last node, or `{node: output}` of several.
    """

    pattern: Literal["graph"]
    nodes: Annotated[list[AnyStep], Field(min_length=1, max_length=MAX_BRANCHES)]
    edges: Annotated[list[GraphEdge], Field(max_length=MAX_EDGES)] = []


OrchestrationSpec: TypeAlias = (
    Sequential | Parallel | Router | Supervisor | MapReduce | LoopUntil | Handoff | Approval | GraphPattern
)
PATTERNS: dict[str, type[OrchestrationSpec]] = {
    "sequential": Sequential,
    "parallel": Parallel,
    "router": Router,
    "supervisor": Supervisor,
    "map_reduce": MapReduce,
    "loop_until": LoopUntil,
    "handoff": Handoff,
    "approval": Approval,
    "graph": GraphPattern,
}
LATER_ORCHESTRATION_PARTS: tuple[tuple[str, ...], ...] = (
    ("on_failure", "notify"),
)  # fmt: skip
