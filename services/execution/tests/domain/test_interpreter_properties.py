"""Any graph, any order, any crash, any duplicate: the same end, within bounds."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.domain.graph import Graph, require_sound
from execution.domain.interpreter import Finished, next_work
from execution.domain.nodes import (
    AgentNode,
    BranchNode,
    JoinMode,
    LoopNode,
    MapNode,
    Node,
    OnError,
    ParallelNode,
    SubrunNode,
    ToolNode,
    Wait,
    WaitNode,
)
from execution.domain.runs import RunStatus, StepStatus
from execution.domain.templates import compile_template
from execution.domain.walk import Outcome, Ready, StepKey

MAX_STEPS = 400
INPUTS = st.fixed_dictionaries(
    {"flag": st.booleans(), "n": st.integers(0, 9), "items": st.lists(st.integers(), max_size=4)}
)


class Builder:
    """Draws a sound graph of all eight kinds; `racing` lets branches race and fail each other."""

    def __init__(self, draw: Callable[..., Any], *, racing: bool) -> None:
        self.draw = draw
        self.racing = racing
        self.nodes: dict[str, Node] = {}

    def graph(self) -> Graph:
        start = self.chain(0, repeated=False)
        graph = Graph(start=start, nodes=self.nodes, max_steps=MAX_STEPS)
        require_sound(graph)
        return graph

    def chain(self, depth: int, *, repeated: bool) -> str:
        """The id of the first node of a new chain, which ends in a leaf."""
        following = self.leaf(None)
        for _ in range(self.draw(st.integers(0, 2))):
            following = self.node(following, depth, repeated=repeated)
        return following

    def node(self, following: str, depth: int, *, repeated: bool) -> str:
        kinds = ["leaf"] if depth == 2 else ["leaf", "parallel", "branch", *([] if repeated else ["map", "loop"])]
        kind = self.draw(st.sampled_from(kinds))
        if kind == "leaf":
            return self.leaf(following)
        build: Callable[..., Node] = {
            "parallel": self.parallel,
            "branch": self.branch,
            "map": self.map,
            "loop": self.loop,
        }[kind]
        return self.add(build(following, depth, repeated=repeated))

    def add(self, node: Node) -> str:
        assert node.id not in self.nodes
        self.nodes[node.id] = node
        return node.id

    def name(self) -> str:
        return f"n{len(self.nodes)}"

    def leaf(self, following: str | None) -> str:
        source = self.draw(st.sampled_from([None, "${input.n}", {"a": "${input.flag} ${input.n}"}]))
        template = None if source is None else compile_template(source)
        name = self.name()
        return self.add(
            self.draw(
                st.sampled_from(
                    [
                        AgentNode(id=name, next=following, agent="x", input=template),
                        ToolNode(id=name, next=following, agent="t", tool="o", input=template),
                        WaitNode(id=name, next=following, wait=Wait.SIGNAL, input=template),
                        SubrunNode(id=name, next=following, orchestration="y", input=template),
                    ]
                )
            )
        )

    def parallel(self, following: str, depth: int, *, repeated: bool) -> Node:
        branches = tuple(self.chain(depth + 1, repeated=repeated) for _ in range(self.draw(st.integers(1, 3))))
        join = self.draw(st.sampled_from(JoinMode)) if self.racing else JoinMode.ALL
        return ParallelNode(
            id=self.name(), next=following, branches=branches, join=join,
            quorum=self.draw(st.integers(1, len(branches))) if join == JoinMode.QUORUM else 0,
            on_branch_error=self.draw(st.sampled_from(OnError)) if self.racing else OnError.SKIP,
        )  # fmt: skip

    def branch(self, following: str, depth: int, *, repeated: bool) -> Node:
        yes, no = (self.chain(depth + 1, repeated=repeated) for _ in range(2))
        return BranchNode(
            id=self.name(), next=following, cases=((compile_template("${input.flag}"), yes),), otherwise=no
        )

    def map(self, following: str, depth: int, *, repeated: bool) -> Node:
        body = self.chain(depth + 1, repeated=True)
        return MapNode(
            id=self.name(), next=following, over=compile_template("${input.items}"), body=body,
            concurrency=self.draw(st.integers(1, 5)), item_error=self.draw(st.sampled_from(OnError)) if self.racing else OnError.SKIP,
        )  # fmt: skip

    def loop(self, following: str, depth: int, *, repeated: bool) -> Node:
        last = body = self.chain(depth + 1, repeated=True)
        while (after := self.nodes[last].next) is not None:
            last = after
        return LoopNode(
            id=self.name(), next=following, body=body, until=compile_template(f"${{steps.{last}.output.stop}}"),
            max_iterations=self.draw(st.integers(1, 4)), on_exhausted=OnError.SKIP,
        )  # fmt: skip


@st.composite
def graphs(draw: Callable[..., Any], *, racing: bool) -> Graph:
    return Builder(draw, racing=racing).graph()


def outcome_of(step: Ready, failing: frozenset[int]) -> Outcome:
    """The same for the same step and input, whenever it is asked; a step of another input shows."""
    mark = int(hashlib.sha256(json.dumps([step.node.id, step.iteration, step.input]).encode()).hexdigest()[:8], 16)
    if mark % 7 in failing:
        return Outcome(StepStatus.FAILED, None, f"code_{mark % 3}")
    return Outcome(StepStatus.COMPLETED, {"mark": mark, "stop": mark % 3 == 0})


def run(
    graph: Graph, input: Any, failing: frozenset[int], order: random.Random
) -> tuple[Finished, dict[StepKey, Outcome]]:
    """Follow a run to its end, some ready steps at a time, crashing and repeating on the way."""
    completed: dict[StepKey, Outcome] = {}
    offered: set[StepKey] = set()
    for _ in range(MAX_STEPS + 1):
        plan = next_work(graph, input, completed)
        remembered = list(completed.items())
        order.shuffle(remembered)
        after_crash = next_work(Graph.from_json(orjson.loads(orjson.dumps(graph.to_json()))), input, dict(remembered))
        assert after_crash == plan
        for key in plan.skipped:
            assert key not in completed
            completed[key] = Outcome(StepStatus.SKIPPED)
        if plan.finished is not None:
            # Policy counts on it: a run that completes leaves no question open, for it has answered or skipped each.
            assert plan.finished.status is not RunStatus.COMPLETED or offered <= completed.keys()
            return plan.finished, completed
        offered |= {StepKey(step.node.id, step.iteration) for step in plan.ready}
        assert next_work(graph, input, completed)[:2] == plan[:2]
        assert plan.ready
        assert len({(step.node.id, step.iteration) for step in plan.ready}) == len(plan.ready)
        chosen = order.sample(plan.ready, order.randint(1, len(plan.ready)))
        for step in chosen:
            key = StepKey(step.node.id, step.iteration)
            assert key not in completed
            completed[key] = outcome_of(step, failing)
    raise AssertionError("a run takes more rounds than its limit of steps")


@settings(max_examples=150, deadline=None)
@given(graphs(racing=False), INPUTS, st.frozensets(st.integers(0, 6), max_size=3), st.integers(), st.integers())
def test_where_nothing_races_any_order_gives_the_same_end(
    graph: Graph, input: Any, failing: frozenset[int], one: int, other: int
) -> None:
    first, _ = run(graph, input, failing, random.Random(one))
    second, _ = run(graph, input, failing, random.Random(other))
    assert first == second


@settings(max_examples=150, deadline=None)
@given(graphs(racing=True), INPUTS, st.frozensets(st.integers(0, 6), max_size=3), st.integers())
def test_a_race_is_decided_once_whatever_crashes_or_comes_late(
    graph: Graph, input: Any, failing: frozenset[int], seed: int
) -> None:
    finished, completed = run(graph, input, failing, random.Random(seed))
    again = next_work(graph, input, completed)
    assert again.ready == ()
    assert again.skipped == ()
    assert again.finished == finished


@settings(max_examples=100, deadline=None)
@given(graphs(racing=True), INPUTS, st.integers())
def test_without_failing_steps_every_run_completes(graph: Graph, input: Any, seed: int) -> None:
    finished, _ = run(graph, input, frozenset(), random.Random(seed))
    assert finished.status is RunStatus.COMPLETED


@settings(max_examples=100, deadline=None)
@given(graphs(racing=True), INPUTS, st.integers(1, 6), st.integers())
def test_no_run_takes_more_steps_than_its_limit(graph: Graph, input: Any, limit: int, seed: int) -> None:
    small = Graph(start=graph.start, nodes=graph.nodes, max_steps=limit)
    finished, completed = run(small, input, frozenset(), random.Random(seed))
    assert sum(1 for outcome in completed.values() if outcome.status != StepStatus.SKIPPED) <= limit
    assert finished.status is RunStatus.COMPLETED or finished.error_code == "max_steps"
