"""The eight kinds of node a graph is made of.

A chain is a node and what its `next` leads to. Four kinds are leaves, done by somebody else: agent, tool, wait, subrun.
Four hold chains: parallel, map, branch, loop. A chain is named by the id of its first node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from execution.domain.retries import RetryPolicy
from execution.domain.templates import Template

MAX_BRANCHES = 100
MAX_ITEMS = 1_000
MAX_CONCURRENCY = 100
MAX_ITERATIONS = 100


class GraphError(ValueError):
    """A graph is not one the interpreter can follow to an end."""


class JoinMode(StrEnum):
    """How many branches must succeed."""

    ALL = "all"
    ANY = "any"
    QUORUM = "quorum"


class OnError(StrEnum):
    """What a failed branch or item does to the whole."""

    FAIL = "fail"
    SKIP = "skip"


class Effects(StrEnum):
    """What a call does to the world, and so whether it may be made twice."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentNode:
    """Runs an agent, named by its alias; without `input` it gets what came before it."""

    kind: ClassVar = "agent"
    id: str
    next: str | None = None
    agent: str
    input: Template | None = None
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolNode:
    """Calls one operation of a connector or tool server."""

    kind: ClassVar = "tool"
    id: str
    next: str | None = None
    tool: str
    operation: str
    input: Template | None = None
    effects: Effects = Effects.WRITE
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitNode:
    """Holds the run until an approval, a timer or a signal; `input` says what is asked."""

    kind: ClassVar = "wait"
    id: str
    next: str | None = None
    wait: str
    input: Template | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubrunNode:
    """Runs another orchestration, named by its alias, as a child."""

    kind: ClassVar = "subrun"
    id: str
    next: str | None = None
    orchestration: str
    input: Template | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelNode:
    """Runs chains side by side and gives on `{first node: output}` of those that count."""

    kind: ClassVar = "parallel"
    id: str
    next: str | None = None
    branches: tuple[str, ...]
    join: JoinMode = JoinMode.ALL
    quorum: int = 0
    on_branch_error: OnError = OnError.FAIL

    @property
    def needed(self) -> int:
        """How many branches must succeed for `any` and `quorum`."""
        return 1 if self.join == JoinMode.ANY else self.quorum


@dataclass(frozen=True, slots=True, kw_only=True)
class MapNode:
    """Runs a chain once per item of a list, some at a time, and gives on the list of outputs."""

    kind: ClassVar = "map"
    id: str
    next: str | None = None
    over: Template
    body: str
    item_name: str = "item"
    """What the body's templates call the item."""
    concurrency: int = 8
    max_items: int = MAX_ITEMS
    item_error: OnError = OnError.FAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchNode:
    """Follows the first chain whose condition is true, else `otherwise`; with neither, the run fails."""

    kind: ClassVar = "branch"
    id: str
    next: str | None = None
    cases: tuple[tuple[Template, str], ...]
    otherwise: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNode:
    """Repeats a chain until the condition is true, at most `max_iterations` times."""

    kind: ClassVar = "loop"
    id: str
    next: str | None = None
    body: str
    until: Template
    max_iterations: int
    on_exhausted: OnError = OnError.FAIL
    """`skip` gives on the last output."""
    result: str | None = None
    """The node of the body whose output is the loop's and the next time's; without, the body's last."""


Leaf: TypeAlias = AgentNode | ToolNode | WaitNode | SubrunNode
Container: TypeAlias = ParallelNode | MapNode | BranchNode | LoopNode
Node: TypeAlias = Leaf | Container
LEAVES = (AgentNode, ToolNode, WaitNode, SubrunNode)
NODE_KINDS: dict[str, Any] = {
    kind.kind: kind for kind in (AgentNode, ToolNode, ParallelNode, MapNode, BranchNode, LoopNode, WaitNode, SubrunNode)
}


def chains_of(node: Node) -> tuple[str, ...]:
    """The chains a node holds; none for a leaf."""
    if isinstance(node, ParallelNode):
        return node.branches
    if isinstance(node, (MapNode, LoopNode)):
        return (node.body,)
    if isinstance(node, BranchNode):
        return (*(chain for _, chain in node.cases), *((node.otherwise,) if node.otherwise else ()))
    return ()


def require_bounded(node: Node) -> None:
    """Raise GraphError when one of the node's numbers is outside its bounds."""
    bounds: dict[str, tuple[int, int]] = {}
    if isinstance(node, ParallelNode):
        bounds["branches"] = (len(node.branches), MAX_BRANCHES)
        if node.join == JoinMode.QUORUM:
            bounds["quorum"] = (node.quorum, len(node.branches))
    elif isinstance(node, BranchNode):
        bounds["cases"] = (len(node.cases), MAX_BRANCHES)
    elif isinstance(node, MapNode):
        bounds["max_items"] = (node.max_items, MAX_ITEMS)
        bounds["concurrency"] = (node.concurrency, MAX_CONCURRENCY)
    elif isinstance(node, LoopNode):
        bounds["max_iterations"] = (node.max_iterations, MAX_ITERATIONS)
    for name, (number, most) in bounds.items():
        if not 1 <= number <= most:
            raise GraphError(f"{node.id!r}: {name} is {number}; it is between 1 and {most}")
