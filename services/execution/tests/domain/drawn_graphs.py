"""Graphs for properties: any sound one of all eight kinds, with what its steps answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from hypothesis import strategies as st

from execution.domain.graph import Graph, require_sound
from execution.domain.nodes import (
    CALLS,
    LEAVES,
    AgentNode,
    BranchNode,
    Edge,
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
from execution.domain.runs import StepStatus
from execution.domain.templates import Template, compile_template
from execution.domain.walk import Outcome, Ready

MAX_STEPS = 1_000
INPUTS = st.fixed_dictionaries(
    {"flag": st.booleans(), "n": st.integers(0, 9), "items": st.lists(st.integers(), max_size=5)}
)
EVERYWHERE = (None, "${input.n}", {"a": "${input.flag} ${input.n}"}, {"before": "${previous}"})


class Races(IntEnum):
    """Where the order in which steps end may decide how a run ends."""

    NEVER = 0
    WHERE_STEPS_FAIL = 1
    """The first that fails ends what is beside it."""
    ALWAYS = 2
    """Joins of any branch, or of so many, too."""


class Builder:
    """Draws a sound graph; every chain ends in a leaf, so that what comes out of it may be asked whether to `stop`."""

    def __init__(self, draw: Callable[..., Any], races: Races) -> None:
        self.draw = draw
        self.races = races
        self.nodes: dict[str, Node] = {}
        self.inputs: tuple[Any, ...] = EVERYWHERE
        self.once: list[str] = []
        """The calls that no map or loop repeats."""

    def graph(self) -> Graph:
        start = self.chain(0, repeated=False)
        undone = self.draw(st.permutations(self.once))[: self.draw(st.integers(0, 3))]
        compensations = tuple((step, self.undoing(step)) for step in undone)
        graph = Graph(start=start, nodes=self.nodes, max_steps=MAX_STEPS, compensations=compensations)
        require_sound(graph)
        return graph

    def chain(self, depth: int, *, repeated: bool) -> str:
        """The id of the first node of a new chain, which ends in a leaf."""
        following = self.leaf(None, repeated=repeated)
        for _ in range(self.draw(st.integers(0, 2))):
            following = self.node(following, depth, repeated=repeated)
        return following

    def node(self, following: str, depth: int, *, repeated: bool) -> str:
        kinds = ["leaf"]
        if depth < 2:
            kinds += ["parallel", "ordered", "branch", *([] if repeated else ["map", "loop"])]
        kind = self.draw(st.sampled_from(kinds))
        if kind == "leaf":
            return self.leaf(following, repeated=repeated)
        build: dict[str, Callable[..., Node]] = {
            "parallel": self.parallel,
            "ordered": self.ordered,
            "branch": self.branch,
            "map": self.map,
            "loop": self.loop,
        }
        return self.add(build[kind](following, depth, repeated=repeated))

    def add(self, node: Node) -> str:
        assert node.id not in self.nodes
        self.nodes[node.id] = node
        return node.id

    def name(self) -> str:
        return f"n{len(self.nodes)}"

    def leaf(self, following: str | None, *, repeated: bool) -> str:
        template, name = self.template(*self.inputs), self.name()
        kinds = (
            AgentNode(id=name, next=following, agent="x", input=template),
            ToolNode(id=name, next=following, agent="t", tool="o", input=template),
            WaitNode(id=name, next=following, wait=Wait.SIGNAL, input=template),
            SubrunNode(id=name, next=following, orchestration="y", input=template),
        )
        node = self.draw(st.sampled_from(kinds))
        if isinstance(node, CALLS) and not repeated:
            self.once.append(name)
        return self.add(node)

    def undoing(self, step: str) -> str:
        """A step that undoes one; some inputs of it have no value."""
        template = self.template(*EVERYWHERE, f"${{steps.{step}.output.mark}}", "${input.nowhere}")
        return self.add(AgentNode(id=self.name(), agent="u", input=template))

    def template(self, *sources: Any) -> Template | None:
        source = self.draw(st.sampled_from(sources))
        return None if source is None else compile_template(source)

    @contextmanager
    def reading(self, *sources: str) -> Iterator[None]:
        """Steps that are drawn meanwhile may have these inputs, too."""
        before, self.inputs = self.inputs, (*self.inputs, *sources)
        yield
        self.inputs = before

    def leaves(self, start: str) -> list[str]:
        """The leaves of a chain that every run through it reaches, the last one last."""
        found, at = [], self.nodes[start]
        while at.next is not None:
            found.append(at)
            at = self.nodes[at.next]
        return [node.id for node in (*found, at) if isinstance(node, LEAVES)]

    def on_error(self) -> OnError:
        return OnError.SKIP if self.races is Races.NEVER else self.draw(st.sampled_from(OnError))

    def parallel(self, following: str, depth: int, *, repeated: bool) -> Node:
        branches = tuple(self.chain(depth + 1, repeated=repeated) for _ in range(self.draw(st.integers(1, 3))))
        join = self.draw(st.sampled_from(JoinMode)) if self.races is Races.ALWAYS else JoinMode.ALL
        return ParallelNode(
            id=self.name(), next=following, branches=branches, join=join,
            quorum=self.draw(st.integers(1, len(branches))) if join == JoinMode.QUORUM else 0,
            on_branch_error=self.on_error(),
        )  # fmt: skip

    def ordered(self, following: str, depth: int, *, repeated: bool) -> Node:
        """A graph of chains; where nothing may race each comes after the one before, for any that fails ends all."""
        branches = tuple(self.chain(depth + 1, repeated=repeated) for _ in range(self.draw(st.integers(2, 4))))
        pairs = [(source, target) for target in range(len(branches)) for source in range(target)]
        in_line = [pair for pair in pairs if pair[0] + 1 == pair[1]]
        fixed = in_line if self.races is Races.NEVER else [self.draw(st.sampled_from(in_line))]
        chosen = {*fixed, *self.draw(st.lists(st.sampled_from(pairs), max_size=4))}
        edges = tuple(
            Edge(
                branches[source],
                branches[target],
                self.template(
                    None, "${input.flag}", "${previous.stop}", f"${{steps.{self.leaves(branches[source])[0]}.output.stop}}"
                ),
            )
            for source, target in sorted(chosen)
        )  # fmt: skip
        return ParallelNode(id=self.name(), next=following, branches=branches, edges=edges)

    def branch(self, following: str, depth: int, *, repeated: bool) -> Node:
        yes, no = (self.chain(depth + 1, repeated=repeated) for _ in range(2))
        return BranchNode(
            id=self.name(), next=following, cases=((compile_template("${input.flag}"), yes),), otherwise=no
        )

    def map(self, following: str, depth: int, *, repeated: bool) -> Node:
        with self.reading("${item}"):
            body = self.chain(depth + 1, repeated=True)
        reducer = self.chain(depth + 1, repeated=True) if self.draw(st.booleans()) else None
        # Groups run side by side, and the first that fails ends the map.
        most = 1 if reducer and self.races is Races.NEVER else 5
        return MapNode(
            id=self.name(), next=following, over=compile_template("${input.items}"), body=body,
            concurrency=self.draw(st.integers(1, most)), item_error=self.on_error(),
            reducer=reducer, fan_in=self.draw(st.integers(2, 4)) if reducer else 0,
        )  # fmt: skip

    def loop(self, following: str, depth: int, *, repeated: bool) -> Node:
        remembers = self.draw(st.booleans())
        with self.reading(*(["${history}"] if remembers else [])):
            body = self.chain(depth + 1, repeated=True)
        leaves = self.leaves(body)
        until = self.draw(st.sampled_from(["previous.stop", f"steps.{leaves[-1]}.output.stop"]))
        return LoopNode(
            id=self.name(), next=following, body=body, until=compile_template(f"${{{until}}}"),
            max_iterations=self.draw(st.integers(1, 4)), on_exhausted=OnError.SKIP,
            result=self.draw(st.sampled_from([None, *leaves])), remembers=remembers,
        )  # fmt: skip


@st.composite
def graphs(draw: Callable[..., Any], races: Races) -> Graph:
    return Builder(draw, races).graph()


def outcome_of(step: Ready, failing: frozenset[int]) -> Outcome:
    """The same for the same step and input, whenever it is asked; a step of another input shows."""
    mark = int(hashlib.sha256(json.dumps([step.node.id, step.iteration, step.input]).encode()).hexdigest()[:8], 16)
    if mark % 7 in failing:
        return Outcome(StepStatus.FAILED, None, f"code_{mark % 3}")
    return Outcome(StepStatus.COMPLETED, {"mark": mark, "stop": mark % 3 == 0})
