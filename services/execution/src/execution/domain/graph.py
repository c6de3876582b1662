"""What a definition compiles to: nodes as data, stored with the version and followed by the interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from execution.domain.documents import Json
from execution.domain.expressions import ROOTS
from execution.domain.nodes import (
    CALLS,
    LEAVES,
    NODE_KINDS,
    Edge,
    GraphError,
    JoinMode,
    LoopNode,
    MapNode,
    Node,
    OnError,
    SubrunNode,
    Wait,
    chains_of,
    require_bounded,
)
from execution.domain.retries import DEFAULT_RETRY, RetryPolicy
from execution.domain.templates import Template, compile_template

MAX_NODES = 1_000
MAX_NESTING = 8
MAX_STEPS = 10_000
DEFAULT_MAX_STEPS = 1_000
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A compiled definition: where it starts, its nodes by id, and what bounds it."""

    start: str
    nodes: Mapping[str, Node]
    max_steps: int = DEFAULT_MAX_STEPS
    retry: RetryPolicy | None = None
    step_timeout_seconds: float | None = None
    compensations: tuple[tuple[str, str], ...] = ()
    """When the run fails: which node undoes which step that has completed, the last one first."""
    aliases: tuple[str, ...] = field(init=False)
    """Every agent alias it needs, sorted."""
    most_steps: int = field(init=False)
    """No run of it takes more steps than so many, those of its children included: `max_steps`, or fewer."""
    following: Mapping[str, str | None] = field(init=False, repr=False, compare=False)
    """Each node's `next`, for the interpreter's shortest way."""

    def __post_init__(self) -> None:
        found = {node.agent for node in self.nodes.values() if isinstance(node, CALLS)}
        object.__setattr__(self, "aliases", tuple(sorted(found)))
        object.__setattr__(self, "following", {node.id: node.next for node in self.nodes.values()})
        object.__setattr__(self, "most_steps", _most_steps(self))

    def to_json(self) -> dict[str, Json]:
        """The graph as JSON, to be stored with the version."""
        return {
            "format": FORMAT,
            "start": self.start,
            "max_steps": self.max_steps,
            "retry": self.retry.to_json() if self.retry else None,
            "step_timeout_seconds": self.step_timeout_seconds,
            "compensations": [list(pair) for pair in self.compensations],
            "nodes": [_node_to_json(node) for node in self.nodes.values()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Graph:
        """The graph that `to_json` wrote; it was checked when it was compiled."""
        if value.get("format") != FORMAT:
            raise GraphError(f"a stored graph of format {value.get('format')!r} cannot be read here")
        roots = (*ROOTS, *(node["item_name"] for node in value["nodes"] if "item_name" in node))
        nodes = [_node_from_json(node, roots) for node in value["nodes"]]
        return cls(
            start=value["start"],
            nodes={node.id: node for node in nodes},
            max_steps=value["max_steps"],
            retry=RetryPolicy.from_json(value["retry"]) if value["retry"] else None,
            step_timeout_seconds=value["step_timeout_seconds"],
            compensations=tuple((step, node) for step, node in value.get("compensations", ())),
        )


def _most_steps(graph: Graph) -> int:
    """Every leaf as often as what holds it may repeat it; of children nobody knows here."""
    if any(isinstance(node, SubrunNode) for node in graph.nodes.values()):
        return graph.max_steps
    times: dict[str, int] = {}
    pending = [(graph.start, 1)]
    while pending:
        at, often = pending.pop()
        node = graph.nodes.get(at)
        if node is None or at in times:
            continue
        times[at] = often if isinstance(node, LEAVES) else 0
        repeated = node.max_iterations if isinstance(node, LoopNode) else 1
        # A reducer runs once per group, and again on what those gave: fewer times than there are items, and once.
        repeated = node.max_items if isinstance(node, MapNode) else repeated
        pending += [(chain, often * repeated) for chain in chains_of(node)]
        if node.next is not None:
            pending.append((node.next, often))
    return min(graph.max_steps, sum(times.values()))


def retry_of(graph: Graph, node: Node, agent_retry: RetryPolicy | None) -> RetryPolicy:
    """The policy of a step: its own, else its agent's, else the orchestration's, else the product's."""
    return getattr(node, "retry", None) or agent_retry or graph.retry or DEFAULT_RETRY


def require_sound(graph: Graph) -> None:
    """Raise GraphError unless every reference exists, each node is reached exactly once and everything is bounded."""
    if len(graph.nodes) > MAX_NODES:
        raise GraphError(f"a graph has at most {MAX_NODES} nodes")
    if not 1 <= graph.max_steps <= MAX_STEPS:
        raise GraphError(f"a run has between 1 and {MAX_STEPS} steps")
    seen: set[str] = set()
    for node in _walk(graph, graph.start, seen, depth=0, repeated=False):
        require_bounded(node)
    for step, node_id in graph.compensations:
        if step not in seen or not isinstance(graph.nodes.get(node_id), CALLS) or node_id in seen:
            raise GraphError(f"{node_id!r} is no step of its own that undoes {step!r}")
        seen.add(node_id)
    if unreached := sorted(set(graph.nodes) - seen):
        raise GraphError(f"never reached: {', '.join(unreached[:5])}")


def _walk(graph: Graph, start: str, seen: set[str], *, depth: int, repeated: bool) -> Iterator[Node]:
    if depth > MAX_NESTING:
        raise GraphError(f"nested deeper than {MAX_NESTING} levels")
    at: str | None = start
    while at is not None:
        node = graph.nodes.get(at)
        if node is None:
            raise GraphError(f"there is no node {at!r}")
        if at in seen:
            raise GraphError(f"the node {at!r} is reached twice")
        seen.add(at)
        yield node
        repeats = isinstance(node, (MapNode, LoopNode))
        if repeats and repeated:
            raise GraphError(f"{at!r}: a map or loop inside another must be a subrun")
        for chain in chains_of(node):
            yield from _walk(graph, chain, seen, depth=depth + 1, repeated=repeated or repeats)
        at = node.next


_TEMPLATES = ("input", "over", "until")
_TUPLES = ("branches", "approvers")
_ENUMS: dict[str, Any] = {
    "wait": Wait,
    "on_refusal": OnError,
    "join": JoinMode,
    "on_branch_error": OnError,
    "item_error": OnError,
    "on_exhausted": OnError,
}


def _node_to_json(node: Node) -> dict[str, Json]:
    stored: dict[str, Json] = {"kind": node.kind}
    for name in node.__dataclass_fields__:
        if name != "kind" and (value := getattr(node, name)) is not None:
            stored[name] = _field_to_json(name, value)
    return stored


def _field_to_json(name: str, value: Any) -> Json:
    if isinstance(value, Template):
        return {"template": value.source}
    if isinstance(value, RetryPolicy):
        return value.to_json()
    if name == "cases":
        return [[template.source, chain] for template, chain in value]
    if name == "edges":
        return [[source, target, None if when is None else when.source] for source, target, when in value]
    return list(value) if isinstance(value, tuple) else value


def _node_from_json(stored: Mapping[str, Json], roots: tuple[str, ...]) -> Node:
    kind = NODE_KINDS.get(stored["kind"])
    if kind is None:
        raise GraphError(f"a stored node of kind {stored['kind']!r} cannot be read here")
    fields = {name: _field_from_json(name, value, roots) for name, value in stored.items() if name != "kind"}
    node: Node = kind(**fields)
    return node


def _field_from_json(name: str, value: Json, roots: tuple[str, ...]) -> Any:
    if name in _TEMPLATES:
        return compile_template(value["template"], roots)
    if name == "retry":
        return RetryPolicy.from_json(value)
    if name == "cases":
        return tuple((compile_template(template, roots), chain) for template, chain in value)
    if name == "edges":
        return tuple(
            Edge(source, target, None if when is None else compile_template(when, roots))
            for source, target, when in value
        )
    if name in _TUPLES:
        return tuple(value)
    return _ENUMS[name](value) if name in _ENUMS else value
