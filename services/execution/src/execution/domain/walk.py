"""One pass over a graph with what has ended so far: how each node and chain stands, and what is ready on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from execution.domain.documents import Json
from execution.domain.expressions import ExpressionError
from execution.domain.graph import Graph
from execution.domain.nodes import (
    LEAVES,
    BranchNode,
    CallNode,
    Container,
    Edge,
    JoinMode,
    Leaf,
    LoopNode,
    MapNode,
    Node,
    OnError,
    ParallelNode,
    WaitNode,
    chains_of,
)
from execution.domain.runs import StepStatus

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
    until: Json = None
    """Of a timer that has a moment: which."""


class Result(NamedTuple):
    """How a node or a chain ended."""

    status: StepStatus
    output: Json = None
    error_code: str | None = None
    node: str | None = None


_PASSED = Result(StepStatus.SKIPPED)


class Walk:
    """One pass over a graph; collects what is ready on the way."""

    __slots__ = ("chosen", "completed", "nodes", "passed", "ready", "roots", "skipped", "steps")

    def __init__(self, graph: Graph, input: Json, completed: Mapping[StepKey, Outcome]) -> None:
        self.nodes = graph.nodes
        self.completed: Mapping[Any, Outcome] = completed
        self.ready: list[Ready] = []
        self.skipped: list[StepKey] = []
        self.passed: set[str] = set()
        self.chosen: dict[str, str] = {}
        self.steps = _Steps(completed, self.skipped, self.passed)
        self.roots: dict[str, Json] = {"input": input, "steps": self.steps}

    def chain(self, start: str, iteration: int, before: Json) -> Result | None:
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
                result = Result(outcome.status, outcome.output, outcome.error_code, at)
            if result.status != StepStatus.COMPLETED:
                return result
            before = result.output
            at = node.next
        return Result(StepStatus.COMPLETED, before)

    def visit(self, node: Node, iteration: int, before: Json) -> Result | None:
        """How a node without an outcome of its own stands."""
        try:
            if not isinstance(node, LEAVES):
                return self.container(node, iteration, before)
            self.steps.iteration, self.roots["previous"] = iteration, before
            if node.input is not None:
                before = node.input.render(self.roots)
            until = node.until.render(self.roots) if isinstance(node, WaitNode) and node.until else None
        except ExpressionError:
            return _failed(EXPRESSION_FAILED, node)
        self.ready.append(Ready(node, iteration, before, until))
        return None

    def undoing(self, node_id: str, output: Json) -> Ready:
        """The step that undoes one which gave this; without `in`, or where that has no value, it gets just that."""
        node = cast("CallNode", self.nodes[node_id])
        self.steps.iteration, self.roots["previous"] = 0, output
        with suppress(ExpressionError):
            output = output if node.input is None else node.input.render(self.roots)
        return Ready(node, 0, output)

    def container(self, node: Container, iteration: int, before: Json) -> Result | None:
        """How a node that holds chains stands."""
        if isinstance(node, ParallelNode):
            return (self.ordered if node.edges else self.parallel)(node, iteration, before)
        if isinstance(node, MapNode):
            return self.map(node, iteration)
        if isinstance(node, BranchNode):
            return self.branch(node, iteration, before)
        return self.loop(node, before)

    def parallel(self, node: ParallelNode, iteration: int, before: Json) -> Result | None:
        """All branches side by side until enough of them have ended."""
        first_ready = len(self.ready)
        results = {name: self.chain(name, iteration, before) for name in node.branches}
        verdict = _joined(node, results)
        if verdict is not None:
            self.abandon(first_ready)
        return verdict

    def ordered(self, node: ParallelNode, iteration: int, before: Json) -> Result | None:
        """All branches, each once those before it have ended; those that no taken edge leads to are passed over."""
        first_ready = len(self.ready)
        results: dict[str, Result | None] = {}
        last: dict[str, Json] = {}
        for name in node.branches:
            sources = [edge for edge in node.edges if edge.target == name]
            if not all(_goes_on(results[edge.source]) for edge in sources):
                results[name] = None
                continue
            taken = self.taken(sources, results, iteration)
            if sources and not taken:
                results[name] = _PASSED
                self.passed.add(name)
                continue
            given = taken if len(taken) > 1 else next(iter(taken.values()), before)
            result = results[name] = self.chain(name, iteration, given)
            last = {source: output for source, output in last.items() if source not in taken}
            last[name] = None if result is None else result.output
        broken = [result for result in results.values() if result is not None and not _goes_on(result)]
        if broken:
            self.abandon(first_ready)
            # What failed speaks for all: those beside it are only skipped because of it.
            return next((result for result in broken if result.status == StepStatus.FAILED), broken[0])
        if any(result is None for result in results.values()):
            return None
        return Result(StepStatus.COMPLETED, last if len(last) > 1 else next(iter(last.values()), before))

    def taken(self, sources: Sequence[Edge], results: Mapping[str, Result | None], iteration: int) -> dict[str, Json]:
        """What comes along the edges that are taken, by the branch it comes from."""
        self.steps.iteration = iteration
        outputs = {}
        for source, _, when in sources:
            result = results[source]
            if result is None or result is _PASSED:
                continue
            self.roots["previous"] = result.output
            if when is None or when.render(self.roots) is True:
                outputs[source] = result.output
        return outputs

    def map(self, node: MapNode, iteration: int) -> Result | None:
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
        if running:
            return None
        return Result(StepStatus.COMPLETED, outputs) if node.reducer is None else self.reduce(node, outputs)

    def reduce(self, node: MapNode, values: list[Json]) -> Result | None:
        """One output of every `fan_in`, and again of those, until there is one; some at a time."""
        done, reducer = 0, node.reducer or ""
        while True:
            groups = [values[at : at + node.fan_in] for at in range(0, len(values), node.fan_in)] or [[]]
            first_ready, running, abandoned = len(self.ready), 0, None
            results: list[Json] = []
            for number, group in enumerate(groups):
                result = self.chain(reducer, done + number, group)
                if result is not None and result.status == StepStatus.FAILED:
                    self.abandon(first_ready)
                    return result
                if result is not None and result.status == StepStatus.COMPLETED:
                    results.append(result.output)
                    continue
                abandoned = abandoned or result
                running += 1
                if running == node.concurrency:
                    break
            if abandoned is not None:
                return abandoned
            if running:
                return None
            if len(groups) == 1:
                return Result(StepStatus.COMPLETED, results[0])
            done, values = done + len(groups), results

    def branch(self, node: BranchNode, iteration: int, before: Json) -> Result | None:
        """The one chain whose condition holds."""
        self.roots["chosen"] = self.chosen.get(node.id, "")
        for condition, chain in node.cases:
            self.steps.iteration, self.roots["previous"] = iteration, before
            if condition.render(self.roots) is True:
                if chain is None:
                    return Result(StepStatus.COMPLETED, before)
                self.chosen[node.id] = chain
                return self.chain(chain, iteration, before)
        if node.otherwise is None:
            return _failed("no_route", node)
        return self.chain(node.otherwise, iteration, before)

    def loop(self, node: LoopNode, before: Json) -> Result | None:
        """The body again and again, each time with what the last time gave."""
        history: list[Json] = []
        for iteration in range(node.max_iterations):
            if node.remembers:
                self.roots["history"] = list(history)
            result = self.chain(node.body, iteration, before)
            if result is None or result.status != StepStatus.COMPLETED:
                return result
            self.steps.iteration = iteration
            if node.result is not None:
                result = result._replace(output=self.steps[node.result]["output"])
            self.roots["previous"] = result.output
            if node.until.render(self.roots) is True:
                return result
            before = result.output
            if node.remembers:
                history.append(self.round(node.body, iteration))
        return (
            Result(StepStatus.COMPLETED, before)
            if node.on_exhausted == OnError.SKIP
            else _failed("loop_exhausted", node)
        )

    def round(self, body: str, iteration: int) -> dict[str, Json]:
        """What each step of a loop's body gave this time round."""
        outputs: dict[str, Json] = {}
        for name in _chain_of(self.nodes, body):
            outcome = self.completed.get((name, iteration))
            if outcome is not None and outcome.status == StepStatus.COMPLETED:
                outputs[name] = outcome.output
        return outputs

    def abandon(self, first_ready: int) -> None:
        """What became ready since then no longer counts."""
        self.skipped.extend(StepKey(step.node.id, step.iteration) for step in self.ready[first_ready:])
        del self.ready[first_ready:]


class _Steps(Mapping[str, Json]):
    """The root `steps`: each step that ended, as of this time round if it ran in it, else as of the first time."""

    __slots__ = ("completed", "iteration", "passed", "skipped")

    def __init__(self, completed: Mapping[Any, Outcome], skipped: list[StepKey], passed: set[str]) -> None:
        self.completed, self.skipped, self.passed = completed, skipped, passed
        self.iteration = 0

    def __getitem__(self, node: str) -> Json:
        outcome = self.completed.get((node, self.iteration)) or self.completed.get((node, 0))
        if outcome is None:
            skipped = node in self.passed or (node, self.iteration) in self.skipped or (node, 0) in self.skipped
            if not skipped:
                raise KeyError(node)
            outcome = Outcome(StepStatus.SKIPPED)
        return {"output": outcome.output, "status": outcome.status, "error_code": outcome.error_code}

    def __iter__(self) -> Iterator[str]:
        reached = {key[0] for key in (*self.completed, *self.skipped) if key[1] in (self.iteration, 0)}
        return iter(reached | self.passed)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _chain_of(nodes: Mapping[str, Node], start: str) -> Iterator[str]:
    """Every node of a chain and of the chains it holds."""
    at: str | None = start
    while at is not None:
        yield at
        for chain in chains_of(nodes[at]):
            yield from _chain_of(nodes, chain)
        at = nodes[at].next


def _goes_on(result: Result | None) -> bool:
    """Whether what comes after such a branch may start, if its edges say so."""
    return result is not None and (result is _PASSED or result.status == StepStatus.COMPLETED)


def _joined(node: ParallelNode, results: Mapping[str, Result | None]) -> Result | None:
    """The verdict of a join. Where it had none yet when all of it was given up from outside, it is skipped, too."""
    ended = {name: result for name, result in results.items() if result is not None}
    won = {name: result.output for name, result in ended.items() if result.status == StepStatus.COMPLETED}
    failed = next((result for result in ended.values() if result.status == StepStatus.FAILED), None)
    abandoned = next((result for result in ended.values() if result.status == StepStatus.SKIPPED), None)
    running = len(results) - len(ended)
    if node.join != JoinMode.ALL and len(won) >= node.needed:
        return Result(StepStatus.COMPLETED, dict(list(won.items())[: node.needed]))
    if failed is not None and node.on_branch_error == OnError.FAIL:
        return failed
    if node.join == JoinMode.ALL:
        if running or abandoned is not None:
            return None if running else abandoned
        return Result(StepStatus.COMPLETED, won) if won else _failed("all_branches_failed", node)
    lost = sum(1 for result in ended.values() if result.status == StepStatus.FAILED)
    if len(results) - lost < node.needed:
        return _failed("quorum_not_reached", node)
    return None if running else abandoned


def _failed(code: str, node: Node) -> Result:
    return Result(StepStatus.FAILED, None, code, node.id)
