"""What the parts of an orchestration say about each other, pattern by pattern."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from execution.domain.documents import Path
from execution.domain.flows import flow_problems
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
from execution.domain.references import TAKEN_NAMES, Checks, Found
from execution.domain.steps import AnyStep, NamedStep


def orchestration_problems(
    spec: OrchestrationSpec, agents: Collection[str] | None, orchestrations: Collection[str] | None
) -> Iterator[Found]:
    """What is wrong with an orchestration beyond the shape of its parts; None: which aliases there are is not known."""
    checks = Checks(spec.input_schema, agents, orchestrations)
    yield from _PROBLEMS[type(spec)](spec, checks)
    yield from _compensation_problems(spec, checks)
    yield from flow_problems(spec.flow, checks)


def _compensation_problems(spec: OrchestrationSpec, checks: Checks) -> Iterator[Found]:
    names, seen = _steps_done_once(spec), set[str]()
    for index, each in enumerate(spec.on_failure.compensate if spec.on_failure else ()):
        at: Path = ("on_failure", "compensate", index)
        if each.step not in names:
            yield (*at, "step"), "unknown_reference", f"{each.step!r} is no step that every run does once at most"
        if each.step in seen or UNDO + each.step in names:
            yield (*at, "step"), "duplicate_id", f"the id {UNDO + each.step!r} is already taken"
        seen.add(each.step)
        yield from checks.call(each, at)
        yield from checks.given(each, at, names, ("previous",))


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


def _sequence_problems(spec: Sequential, checks: Checks) -> Iterator[Found]:
    earlier: list[str] = []
    for index, step in enumerate(spec.steps):
        yield from checks.any(step, ("steps", index), earlier)
        yield from _unique(step, ("steps", index), earlier)
        earlier.append(step.id)
    yield from _enough_steps(spec, len(spec.steps))


def _parallel_problems(spec: Parallel, checks: Checks) -> Iterator[Found]:
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


def _router_problems(spec: Router, checks: Checks) -> Iterator[Found]:
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


def _map_problems(spec: MapReduce, checks: Checks) -> Iterator[Found]:
    if spec.item_name in TAKEN_NAMES:
        yield ("as",), "invalid_value", f"an item is not called {spec.item_name!r}: that is something else already"
    yield from checks.template(spec.over, ("over",), (), ("input",))
    if not spec.over.startswith("${") or not spec.over.endswith("}"):
        yield ("over",), "invalid_value", "over is one expression, whose value is a list: ${input.documents}"
    yield from checks.step(spec.map, ("map",), (), (spec.item_name,))
    if spec.reduce is not None:
        yield from checks.step(spec.reduce, ("reduce",), (), ("previous",))
    yield from _enough_steps(spec, 1 + (spec.reduce is not None))


def _loop_problems(spec: LoopUntil, checks: Checks) -> Iterator[Found]:
    judge = spec.judge
    yield from checks.step(spec.body, ("body",), (), ("previous",))
    if judge.expr is not None:
        yield from checks.rule(judge.expr, ("judge", "expr"), (BODY,), is_condition=True)
    elif judge.agent is not None:
        yield from checks.work(judge, judge.agent, ("judge",), (BODY,))
    yield from _enough_steps(spec, 1 + (judge.agent is not None))


def _supervisor_problems(spec: Supervisor, checks: Checks) -> Iterator[Found]:
    yield from checks.alias(spec.supervisor, ("supervisor",))
    for index, worker in enumerate(spec.workers):
        yield from checks.alias(worker, ("workers", index))
        if worker == SUPERVISE or worker in spec.workers[:index]:
            yield ("workers", index), "duplicate_id", f"the name {worker!r} is already taken"
    if spec.stop_when is not None:
        yield from checks.rule(spec.stop_when, ("stop_when",), (SUPERVISE, *spec.workers), is_condition=True)
    yield from _enough_steps(spec, 1)


def _handoff_problems(spec: Handoff, checks: Checks) -> Iterator[Found]:
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


def _approval_problems(spec: Approval, checks: Checks) -> Iterator[Found]:
    yield from checks.step(spec.before, ("before",), ())
    yield from checks.bound(spec, ())
    yield from _enough_steps(spec, 2)


def _graph_problems(spec: GraphPattern, checks: Checks) -> Iterator[Found]:
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


_PROBLEMS: dict[type[Any], Callable[[Any, Checks], Iterator[Found]]] = {
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
