"""What the parts of an orchestration say about each other: names that exist, templates that read what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from execution.domain.documents import Json, Path
from execution.domain.expressions import CelExpression, ExpressionError, PathExpression, compile_expression
from execution.domain.nodes import GraphError
from execution.domain.orchestrations import (
    ACT,
    BODY,
    CLASSIFY,
    MERGE,
    OTHERWISE,
    SUPERVISE,
    UNDO,
    Approval,
    GraphPattern,
    Handoff,
    LoopUntil,
    MapReduce,
    OrchestrationSpec,
    Parallel,
    Router,
    Sequential,
    Supervisor,
)
from execution.domain.ordering import in_order
from execution.domain.problems import NOT_SUPPORTED_YET
from execution.domain.steps import AnyStep, ApprovalAsk, NamedStep, StepShape, Work
from execution.domain.templates import TemplateError, compile_template

Found = tuple[Path, str, str]

TAKEN_NAMES = ("input", "steps", "previous", "history", "chosen")
_STEP_KEYS = ("output", "status", "error_code")
_OPENERS = ("additionalProperties", "patternProperties", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if")


def orchestration_problems(spec: OrchestrationSpec, aliases: Collection[str] | None) -> Iterator[Found]:
    """What is wrong with an orchestration beyond the shape of its parts; without `aliases` these are not checked."""
    checks = _Checks(spec.input_schema, aliases)
    yield from _PROBLEMS[type(spec)](spec, checks)
    yield from _compensation_problems(spec, checks)


def _compensation_problems(spec: OrchestrationSpec, checks: _Checks) -> Iterator[Found]:
    names, seen = _steps_done_once(spec), set[str]()
    for index, each in enumerate(spec.on_failure.compensate if spec.on_failure else ()):
        at: Path = ("on_failure", "compensate", index)
        if each.step not in names:
            yield (*at, "step"), "unknown_reference", f"{each.step!r} is no step that every run does once at most"
        if each.step in seen or UNDO + each.step in names:
            yield (*at, "step"), "duplicate_id", f"the id {UNDO + each.step!r} is already taken"
        seen.add(each.step)
        yield from checks.step(each, at, names, ("previous",))


def _steps_done_once(spec: OrchestrationSpec) -> list[str]:
    """The ids of steps outside of loops and maps."""
    match spec:
        case Sequential():
            return [step.id for step in spec.steps]
        case Parallel():
            return [*(branch.id for branch in spec.branches), *([MERGE] if spec.merge else [])]
        case Router():
            named = {CLASSIFY: spec.classifier.agent, OTHERWISE: spec.otherwise}
            return [*spec.routes, *(name for name, there in named.items() if there)]
        case Approval():
            return [ACT]
        case GraphPattern():
            return [node.id for node in spec.nodes]
        case _:
            return []


def _sequence_problems(spec: Sequential, checks: _Checks) -> Iterator[Found]:
    earlier: list[str] = []
    for index, step in enumerate(spec.steps):
        yield from checks.any(step, ("steps", index), earlier)
        yield from _unique(step, ("steps", index), earlier)
        earlier.append(step.id)
    yield from _enough_steps(spec, len(spec.steps))


def _parallel_problems(spec: Parallel, checks: _Checks) -> Iterator[Found]:
    names: list[str] = []
    for index, branch in enumerate(spec.branches):
        yield from checks.step(branch, ("branches", index), ())
        yield from _unique(branch, ("branches", index), [*names, MERGE])
        names.append(branch.id)
    if spec.merge is not None:
        yield from checks.step(spec.merge, ("merge",), names)
    if spec.join.quorum is not None and spec.join.quorum > len(spec.branches):
        yield ("join", "quorum"), "invalid_value", f"quorum is at most the number of branches, {len(spec.branches)}"
    yield from _enough_steps(spec, len(spec.branches) + (spec.merge is not None))


def _router_problems(spec: Router, checks: _Checks) -> Iterator[Found]:
    classifier, earlier = spec.classifier, (CLASSIFY,) if spec.classifier.agent else ()
    if classifier.expr is not None:
        yield from checks.rule(classifier.expr, ("classifier", "expr"), ())
    elif classifier.agent is not None:
        yield from checks.work(classifier, classifier.agent, ("classifier",), ())
    for name, step in spec.routes.items():
        if name in (CLASSIFY, OTHERWISE):
            yield ("routes", name), "duplicate_id", f"a route is not called {name!r}: that is a step of every router"
        yield from checks.step(step, ("routes", name), earlier)
    if spec.otherwise is not None:
        yield from checks.step(spec.otherwise, ("otherwise",), earlier)
    yield from _enough_steps(spec, 1 + len(earlier))


def _map_problems(spec: MapReduce, checks: _Checks) -> Iterator[Found]:
    if spec.item_name in TAKEN_NAMES:
        yield ("as",), "invalid_value", f"an item is not called {spec.item_name!r}: that is something else already"
    yield from checks.template(spec.over, ("over",), (), ("input",))
    if not spec.over.startswith("${") or not spec.over.endswith("}"):
        yield ("over",), "invalid_value", "over is one expression, whose value is a list: ${input.documents}"
    yield from checks.step(spec.map, ("map",), (), (spec.item_name,))
    if spec.reduce is not None:
        yield from checks.step(spec.reduce, ("reduce",), (), ("previous",))
    yield from _enough_steps(spec, 1 + (spec.reduce is not None))


def _loop_problems(spec: LoopUntil, checks: _Checks) -> Iterator[Found]:
    judge = spec.judge
    yield from checks.step(spec.body, ("body",), (), ("previous",))
    if judge.expr is not None:
        yield from checks.rule(judge.expr, ("judge", "expr"), (BODY,), is_condition=True)
    elif judge.agent is not None:
        yield from checks.work(judge, judge.agent, ("judge",), (BODY,))
    yield from _enough_steps(spec, 1 + (judge.agent is not None))


def _supervisor_problems(spec: Supervisor, checks: _Checks) -> Iterator[Found]:
    yield from checks.alias(spec.supervisor, ("supervisor",))
    for index, worker in enumerate(spec.workers):
        yield from checks.alias(worker, ("workers", index))
        if worker == SUPERVISE or worker in spec.workers[:index]:
            yield ("workers", index), "duplicate_id", f"the name {worker!r} is already taken"
    if spec.stop_when is not None:
        yield from checks.rule(spec.stop_when, ("stop_when",), (SUPERVISE, *spec.workers), is_condition=True)
    yield from _enough_steps(spec, 1)


def _handoff_problems(spec: Handoff, checks: _Checks) -> Iterator[Found]:
    yield from checks.alias(spec.start, ("start",))
    for giver, targets in spec.edges.items():
        yield from checks.alias(giver, ("edges", giver))
        for index, target in enumerate(targets):
            yield from checks.alias(target, ("edges", giver, index))
    reached, following = set[str](), [spec.start]
    while following:
        name = following.pop()
        if name not in reached:
            reached.add(name)
            following += spec.edges.get(name, ())
    for giver in spec.edges:
        if giver not in reached:
            yield ("edges", giver), "unknown_reference", f"nobody ever hands to {giver!r}"


def _approval_problems(spec: Approval, checks: _Checks) -> Iterator[Found]:
    yield from checks.step(spec.before, ("before",), ())
    yield from checks.bound(spec, ())
    yield from _enough_steps(spec, 2)


def _graph_problems(spec: GraphPattern, checks: _Checks) -> Iterator[Found]:
    names = [node.id for node in spec.nodes]
    faults = list(_edge_problems(spec, names))
    for index, node in enumerate(spec.nodes):
        faults += _unique(node, ("nodes", index), names[:index])
    if faults:
        yield from faults
        return
    try:
        order = in_order(names, [(edge.source, edge.target) for edge in spec.edges])
    except GraphError as error:
        yield ("edges",), "invalid_value", str(error)
        return
    earlier: dict[str, set[str]] = {}
    for name in order:
        before = [edge.source for edge in spec.edges if edge.target == name]
        earlier[name] = {*before, *(one for source in before for one in earlier[source])}
    for index, node in enumerate(spec.nodes):
        yield from checks.any(node, ("nodes", index), earlier[node.id])
    for index, edge in enumerate(spec.edges):
        if edge.when is not None:
            known = (*earlier[edge.source], edge.source)
            yield from checks.rule(edge.when, ("edges", index, "when"), known, ("previous",), is_condition=True)


def _edge_problems(spec: GraphPattern, names: list[str]) -> Iterator[Found]:
    seen: set[tuple[str, str]] = set()
    for index, edge in enumerate(spec.edges):
        for key, name in (("from", edge.source), ("to", edge.target)):
            if name not in names:
                yield ("edges", index, key), "unknown_reference", f"no node has the id {name!r}"
        if (edge.source, edge.target) in seen:
            yield ("edges", index), "duplicate_id", f"there already is an edge from {edge.source!r} to {edge.target!r}"
        seen.add((edge.source, edge.target))


def _enough_steps(spec: OrchestrationSpec, steps: int) -> Iterator[Found]:
    if steps > spec.limits.max_steps:
        yield ("limits", "max_steps"), "invalid_value", f"max_steps is less than the {steps} steps every run takes"


def _unique(step: NamedStep | AnyStep, at: Path, taken: Collection[str]) -> Iterator[Found]:
    if step.id in taken:
        yield (*at, "id"), "duplicate_id", f"the id {step.id!r} is already taken"


class _Checks(NamedTuple):
    """What every part of one orchestration is held against."""

    input_schema: dict[str, Any] | None
    aliases: Collection[str] | None

    def step(self, step: StepShape, at: Path, earlier: Collection[str], more: tuple[str, ...] = ()) -> Iterator[Found]:
        """What is wrong with a step that may read these earlier ones, and more roots than `input` and `steps`."""
        yield from self.work(step, step.agent, at, earlier, more)

    def any(self, step: AnyStep, at: Path, earlier: Collection[str]) -> Iterator[Found]:
        """What is wrong with a step of whichever kind that may read these earlier ones, and what came before."""
        if step.agent is not None:
            yield from self.work(step, step.agent, at, earlier, ("previous",))
            return
        roots = ("input", "steps", "previous") if earlier else ("input", "previous")
        if step.has_input:
            yield from self.template(step.input, (*at, "in"), earlier, roots)
        if step.approval is not None:
            yield from self.bound(step.approval, (*at, "approval"))
            if step.has_input and step.approval.bind:
                yield (*at, "approval", "bind"), "invalid_value", "what is shown is said by in or by bind, not by both"
        if step.timer is not None and step.timer.until is not None:
            yield from self.template(step.timer.until, (*at, "timer", "until"), earlier, roots)

    def bound(self, ask: ApprovalAsk, at: Path) -> Iterator[Found]:
        """What is wrong with an approval: what it shows of the input, and how many have to agree."""
        if ask.approvers.count > 1:
            yield (
                (*at, "approvers", "count"),
                NOT_SUPPORTED_YET,
                "approvals by more than one person are not supported yet",
            )
        for index, name in enumerate(ask.bind):
            if message := self._fault(PathExpression("input", (name,)), ()):
                yield (*at, "bind", index), "unknown_reference", message

    def alias(self, agent: str, at: Path) -> Iterator[Found]:
        """An agent that is named without more."""
        if self.aliases is not None and agent not in self.aliases:
            yield at, "unknown_reference", f"no agent has the alias {agent!r}"

    def work(
        self, work: Work, agent: str, at: Path, earlier: Collection[str], more: tuple[str, ...] = ()
    ) -> Iterator[Found]:
        """The same of anything that an agent does."""
        yield from self.alias(agent, (*at, "agent"))
        if work.has_input:
            roots = ("input", "steps", *more) if earlier else ("input", *more)
            yield from self.template(work.input, (*at, "in"), earlier, roots)

    def template(self, source: Json, at: Path, earlier: Collection[str], roots: tuple[str, ...]) -> Iterator[Found]:
        """What is wrong with a template over these roots."""
        try:
            template = compile_template(source, roots)
        except TemplateError as error:
            yield (*at, *error.path), "invalid_expression", error.message
            return
        for where, path in template.paths():
            if message := self._fault(path, earlier):
                yield (*at, *where), "unknown_reference", message

    def rule(
        self, text: str, at: Path, earlier: Collection[str], more: tuple[str, ...] = (), *, is_condition: bool = False
    ) -> Iterator[Found]:
        """What is wrong with an expression that decides something."""
        try:
            expression = compile_expression(text, ("input", "steps", *more) if earlier else ("input", *more))
        except ExpressionError as error:
            yield at, "invalid_expression", str(error)
            return
        if isinstance(expression, PathExpression) and (message := self._fault(expression, earlier)):
            yield at, "unknown_reference", message
        if is_condition and isinstance(expression, CelExpression) and not expression.expression.is_condition:
            yield at, "invalid_expression", "this is never true or false"

    def _fault(self, path: PathExpression, earlier: Collection[str]) -> str:
        if path.root == "steps":
            return _step_path_fault(path, earlier)
        return _input_path_fault(path, self.input_schema) if path.root == "input" else ""


def _step_path_fault(path: PathExpression, earlier: Collection[str]) -> str:
    if not path.keys or path.keys[0] not in earlier:
        return f"{path}: no earlier step has that id"
    if len(path.keys) > 1 and path.keys[1] not in _STEP_KEYS:
        return f"{path}: a step has {', '.join(_STEP_KEYS)}"
    return ""


def _input_path_fault(path: PathExpression, schema: dict[str, Json] | None) -> str:
    """A property the input schema does not know, unless the schema leaves room for it."""
    if schema is None or not path.keys or not isinstance(schema.get("properties"), dict):
        return ""
    if path.keys[0] in schema["properties"] or any(schema.get(opener) for opener in _OPENERS):
        return ""
    return f"{path} is no property that input_schema declares"


_PROBLEMS: dict[type[Any], Callable[[Any, _Checks], Iterator[Found]]] = {
    Sequential: _sequence_problems,
    Parallel: _parallel_problems,
    Router: _router_problems,
    Supervisor: _supervisor_problems,
    MapReduce: _map_problems,
    LoopUntil: _loop_problems,
    Handoff: _handoff_problems,
    Approval: _approval_problems,
    GraphPattern: _graph_problems,
}
