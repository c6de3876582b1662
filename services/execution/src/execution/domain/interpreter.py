"""The engine's only brain: what to do next, from a graph and what has ended so far. No clock, no I/O, no memory.

The caller keeps what ended in `completed`, one outcome per step and never changed, and calls again. It stores
`skipped` in the same write as the outcome that caused it: the first decision about a join is then final, and a crash,
a duplicate or a late answer of a branch that no longer counts changes nothing. Where nothing races (`all` joins,
sequences, loops) the result is the same for any order of completions; an `any` or `quorum` join is decided by the
branches that had completed when it was reached, in their declared order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from execution.domain.documents import Json
from execution.domain.expressions import ExpressionError
from execution.domain.graph import Graph
from execution.domain.nodes import (
    LEAVES,
    BranchNode,
    Container,
    JoinMode,
    Leaf,
    LoopNode,
    MapNode,
    Node,
    OnError,
    ParallelNode,
)
from execution.domain.runs import RunStatus, StepStatus, StopReason

EXPRESSION_FAILED = "expression_failed"


class StepKey(NamedTuple):
    """Which step: a node, and which time round for nodes inside a map or loop (else 0)."""

    node: str
    iteration: int = 0


class Outcome(NamedTuple):
    """How a step ended, once and for all: after its last attempt, or skipped."""

    status: StepStatus
    output: Json = None
    error_code: str | None = None


class Ready(NamedTuple):
    """A step to be done (perhaps already being done by the caller), with its input."""

    node: Leaf
    iteration: int
    input: Json


class Finished(NamedTuple):
    """The end of the run; a run that failed keeps what its steps had produced, by node."""

    status: RunStatus
    output: Json = None
    error_code: str | None = None
    error_node: str | None = None
    stop_reason: StopReason | None = None


class Plan(NamedTuple):
    """What follows: steps to do, the end, and steps to store as skipped (and stop, if they are being done)."""

    ready: tuple[Ready, ...] = ()
    finished: Finished | None = None
    skipped: tuple[StepKey, ...] = ()


def next_work(graph: Graph, input: Json, completed: Mapping[StepKey, Outcome]) -> Plan:
    """What to do next for a run of this graph with this input, of which these steps have ended."""
    at, before = _last_reached(graph, input, completed)
    if at is None:
        return Plan((), Finished(RunStatus.COMPLETED, before))
    walk = _Walk(graph, input, completed)
    result = walk.chain(at, 0, before)
    skipped = tuple(walk.skipped)
    if result is not None:
        return Plan((), _end(result, completed), skipped)
    if len(completed) + len(walk.ready) > graph.max_steps and _done(completed) + len(walk.ready) > graph.max_steps:
        reason = StopReason.MAX_STEPS
        left = tuple(StepKey(step.node.id, step.iteration) for step in walk.ready)
        end = Finished(RunStatus.FAILED, partial_output(completed), reason.value, None, reason)
        return Plan((), end, skipped + left)
    return Plan(tuple(walk.ready), None, skipped)


def _last_reached(graph: Graph, input: Json, completed: Mapping[Any, Outcome]) -> tuple[str | None, Json]:
    """Where the main chain stands, found without the machinery that most calls do not need."""
    at: str | None = graph.start
    following, before = graph.following, input
    while at is not None:
        outcome = completed.get((at, 0))
        if outcome is None or outcome.status != StepStatus.COMPLETED:
            break
        before = outcome.output
        at = following[at]
    return at, before


def partial_output(completed: Mapping[StepKey, Outcome]) -> dict[str, Json]:
    """What a run that did not finish had produced: the last output of each node, whatever order they came in."""
    last: dict[str, tuple[int, Json]] = {}
    for (node, iteration), outcome in completed.items():
        if outcome.status == StepStatus.COMPLETED and iteration >= last.get(node, (0, None))[0]:
            last[node] = (iteration, outcome.output)
    return {node: last[node][1] for node in sorted(last)}


class _Result(NamedTuple):
    """How a node or a chain ended."""

    status: StepStatus
    output: Json = None
    error_code: str | None = None
    node: str | None = None


class _Walk:
    """One pass over a graph; collects what is ready on the way."""

    __slots__ = ("completed", "graph", "nodes", "ready", "roots", "skipped", "steps")

    def __init__(self, graph: Graph, input: Json, completed: Mapping[StepKey, Outcome]) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.completed: Mapping[Any, Outcome] = completed
        self.ready: list[Ready] = []
        self.skipped: list[StepKey] = []
        self.steps = _Steps(completed, self.skipped)
        self.roots: dict[str, Json] = {"input": input, "steps": self.steps}

    def chain(self, start: str, iteration: int, before: Json) -> _Result | None:
        """How the chain ended, or None while it has not; what it needs for that is then in `ready`."""
        at: str | None = start
        while at is not None:
            node = self.nodes[at]
            outcome = self.completed.get((at, iteration))
            if outcome is None:
                result = self.visit(node, iteration, before)
                if result is None:
                    return None
            else:
                result = _Result(outcome.status, outcome.output, outcome.error_code, at)
            if result.status != StepStatus.COMPLETED:
                return result
            before = result.output
            at = node.next
        return _Result(StepStatus.COMPLETED, before)

    def visit(self, node: Node, iteration: int, before: Json) -> _Result | None:
        """How a node without an outcome of its own stands."""
        try:
            if not isinstance(node, LEAVES):
                return self.container(node, iteration, before)
            if node.input is not None:
                self.steps.iteration, self.roots["previous"] = iteration, before
                before = node.input.render(self.roots)
        except ExpressionError:
            return _failed(EXPRESSION_FAILED, node)
        self.ready.append(Ready(node, iteration, before))
        return None

    def container(self, node: Container, iteration: int, before: Json) -> _Result | None:
        """How a node that holds chains stands."""
        if isinstance(node, ParallelNode):
            return self.parallel(node, iteration, before)
        if isinstance(node, MapNode):
            return self.map(node, iteration)
        if isinstance(node, BranchNode):
            return self.branch(node, iteration, before)
        return self.loop(node, before)

    def parallel(self, node: ParallelNode, iteration: int, before: Json) -> _Result | None:
        """All branches side by side until enough of them have ended."""
        first_ready = len(self.ready)
        results = {name: self.chain(name, iteration, before) for name in node.branches}
        verdict = _joined(node, results)
        if verdict is not None:
            self.abandon(first_ready)
        return verdict

    def map(self, node: MapNode, iteration: int) -> _Result | None:
        """The body once per item, `concurrency` of them at a time."""
        self.steps.iteration = iteration
        items = node.over.render(self.roots)
        if not isinstance(items, list):
            return _failed("invalid_items", node)
        if len(items) > node.max_items:
            return _failed("too_many_items", node)
        first_ready, running, outputs, abandoned = len(self.ready), 0, [], None
        for index, item in enumerate(items):
            self.roots[node.item_name] = item
            result = self.chain(node.body, index, item)
            del self.roots[node.item_name]
            if result is None:
                running += 1
                if running == node.concurrency:
                    break
            elif result.status == StepStatus.COMPLETED:
                outputs.append(result.output)
            elif result.status == StepStatus.SKIPPED:
                abandoned = abandoned or result
            elif node.item_error == OnError.FAIL:
                self.abandon(first_ready)
                return result
        if abandoned is not None:
            del self.ready[first_ready:]  # they never were: no item takes the place of one that no longer counts
            return abandoned
        return None if running else _Result(StepStatus.COMPLETED, outputs)

    def branch(self, node: BranchNode, iteration: int, before: Json) -> _Result | None:
        """The one chain whose condition holds."""
        for condition, chain in node.cases:
            self.steps.iteration = iteration
            if condition.render(self.roots) is True:
                return self.chain(chain, iteration, before)
        if node.otherwise is None:
            return _failed("no_route", node)
        return self.chain(node.otherwise, iteration, before)

    def loop(self, node: LoopNode, before: Json) -> _Result | None:
        """The body again and again, each time with what the last time gave."""
        for iteration in range(node.max_iterations):
            result = self.chain(node.body, iteration, before)
            if result is None or result.status != StepStatus.COMPLETED:
                return result
            self.steps.iteration = iteration
            if node.result is not None:
                result = result._replace(output=self.steps[node.result]["output"])
            if node.until.render(self.roots) is True:
                return result
            before = result.output
        return (
            _Result(StepStatus.COMPLETED, before)
            if node.on_exhausted == OnError.SKIP
            else _failed("loop_exhausted", node)
        )

    def abandon(self, first_ready: int) -> None:
        """What became ready since then no longer counts."""
        self.skipped.extend(StepKey(step.node.id, step.iteration) for step in self.ready[first_ready:])
        del self.ready[first_ready:]


class _Steps(Mapping[str, Json]):
    """The root `steps`: each step that ended, as of this time round if it ran in it, else as of the first time."""

    __slots__ = ("completed", "iteration", "skipped")

    def __init__(self, completed: Mapping[Any, Outcome], skipped: list[StepKey]) -> None:
        self.completed = completed
        self.skipped = skipped
        self.iteration = 0

    def __getitem__(self, node: str) -> Json:
        outcome = self.completed.get((node, self.iteration)) or self.completed.get((node, 0))
        if outcome is None:
            if (node, self.iteration) not in self.skipped and (node, 0) not in self.skipped:
                raise KeyError(node)
            outcome = Outcome(StepStatus.SKIPPED)
        return {"output": outcome.output, "status": outcome.status, "error_code": outcome.error_code}

    def __iter__(self) -> Iterator[str]:
        return iter({key[0] for key in (*self.completed, *self.skipped) if key[1] in (self.iteration, 0)})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _joined(node: ParallelNode, results: Mapping[str, _Result | None]) -> _Result | None:
    """The verdict of a join. Where it had none yet when all of it was given up from outside, it is skipped, too."""
    ended = {name: result for name, result in results.items() if result is not None}
    won = {name: result.output for name, result in ended.items() if result.status == StepStatus.COMPLETED}
    failed = next((result for result in ended.values() if result.status == StepStatus.FAILED), None)
    abandoned = next((result for result in ended.values() if result.status == StepStatus.SKIPPED), None)
    running = len(results) - len(ended)
    if node.join != JoinMode.ALL and len(won) >= node.needed:
        return _Result(StepStatus.COMPLETED, dict(list(won.items())[: node.needed]))
    if failed is not None and node.on_branch_error == OnError.FAIL:
        return failed
    if node.join == JoinMode.ALL:
        if running or abandoned is not None:
            return None if running else abandoned
        return _Result(StepStatus.COMPLETED, won) if won else _failed("all_branches_failed", node)
    lost = sum(1 for result in ended.values() if result.status == StepStatus.FAILED)
    if len(results) - lost < node.needed:
        return _failed("quorum_not_reached", node)
    return None if running else abandoned


def _failed(code: str, node: Node) -> _Result:
    return _Result(StepStatus.FAILED, None, code, node.id)


def _end(result: _Result, completed: Mapping[StepKey, Outcome]) -> Finished:
    if result.status == StepStatus.COMPLETED:
        return Finished(RunStatus.COMPLETED, result.output)
    code = result.error_code or ("step_skipped" if result.status == StepStatus.SKIPPED else "failed")
    return Finished(RunStatus.FAILED, partial_output(completed), code, result.node)


def _done(completed: Mapping[StepKey, Outcome]) -> int:
    return sum(1 for outcome in completed.values() if outcome.status != StepStatus.SKIPPED)
