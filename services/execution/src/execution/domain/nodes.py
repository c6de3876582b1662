"""The eight kinds of node a graph is made of.

A chain is a node and what its `next` leads to. Four kinds are leaves, done by somebody else: agent, tool, wait, subrun.
Four hold chains: parallel, map, branch, loop. A chain is named by the id of its first node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, TypeAlias

from execution.domain.retries import RetryPolicy
from execution.domain.templates import Template

MAX_BRANCHES = 100
MAX_EDGES = 1_000
MAX_ITEMS = 1_000
MAX_CONCURRENCY = 100
MAX_FAN_IN = 100
MAX_ITERATIONS = 100
DEFAULT_WAIT_SECONDS = 24 * 3600.0
MAX_WAIT_SECONDS = 30 * 24 * 3600.0
"""No longer than the shortest time for which runs are kept."""


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


class Wait(StrEnum):
    """What a run can wait for at a node."""

    APPROVAL = "approval"
    TIMER = "timer"
    SIGNAL = "signal"


class Edge(NamedTuple):
    """One branch comes after another, where the condition holds once that has ended."""

    source: str
    target: str
    when: Template | None = None


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
    """Calls one of the tools that an agent has, itself not asked; `input` is the tool's arguments."""

    kind: ClassVar = "tool"
    id: str
    next: str | None = None
    agent: str
    """The alias of the agent whose tool it is."""
    tool: str
    """What its server calls it."""
    input: Template | None = None
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitNode:
    """Holds the run until a person approves, a moment comes or a signal arrives; `input` is what is asked or shown."""

    kind: ClassVar = "wait"
    id: str
    next: str | None = None
    wait: Wait
    input: Template | None = None
    timeout_seconds: float = DEFAULT_WAIT_SECONDS
    """How long at most; of a timer without `until`: exactly so long."""
    until: Template | None = None
    """Of a timer: the moment, as text with its offset from UTC."""
    signal: str = ""
    """What the signal is called."""
    approvers: tuple[str, ...] = ()
    """Who may approve, as `role:<role>` or `user:<id>`; nobody named: everybody with the right to."""
    on_refusal: OnError = OnError.FAIL
    """What being rejected, or not answered in time, does: `skip` goes on, the outcome in the output."""


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
    """Runs chains side by side and gives on `{first node: output}` of those that count.

    With `edges` a chain starts once all before it have ended, if one of its edges was taken, and is passed over
    otherwise; the branches are then listed in an order that the edges allow, and the output is that of the last ones.
    """

    kind: ClassVar = "parallel"
    id: str
    next: str | None = None
    branches: tuple[str, ...]
    join: JoinMode = JoinMode.ALL
    quorum: int = 0
    on_branch_error: OnError = OnError.FAIL
    edges: tuple[Edge, ...] = ()

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
    reducer: str | None = None
    """The chain that makes one output of up to `fan_in`, and again one of those, until there is only one."""
    fan_in: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchNode:
    """Follows the first chain whose condition is true, else `otherwise`; with neither, the run fails.

    A condition without a chain gives on what came before. Conditions may ask for `chosen`: the chain that was followed
    the last time round.
    """

    kind: ClassVar = "branch"
    id: str
    next: str | None = None
    cases: tuple[tuple[Template, str | None], ...]
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
    remembers: bool = False
    """Whether its body reads `history`: a list with `{step: output}` for each time round before."""


CallNode: TypeAlias = AgentNode | ToolNode
"""What a worker calls somebody for."""
CALLS = (AgentNode, ToolNode)
CALL_KINDS = tuple(kind.kind for kind in CALLS)
IS_CALL = f"kind in {CALL_KINDS!r}"
"""The same of a row, in SQL."""
Leaf: TypeAlias = CallNode | WaitNode | SubrunNode
Container: TypeAlias = ParallelNode | MapNode | BranchNode | LoopNode
Node: TypeAlias = Leaf | Container
LEAVES = (*CALLS, WaitNode, SubrunNode)
NODE_KINDS: dict[str, Any] = {kind.kind: kind for kind in (*LEAVES, ParallelNode, MapNode, BranchNode, LoopNode)}


def chains_of(node: Node) -> tuple[str, ...]:
    """The chains a node holds; none for a leaf."""
    if isinstance(node, ParallelNode):
        return node.branches
    if isinstance(node, MapNode):
        return (node.body, node.reducer) if node.reducer else (node.body,)
    if isinstance(node, LoopNode):
        return (node.body,)
    if isinstance(node, BranchNode):
        return tuple(chain for chain in (*(chain for _, chain in node.cases), node.otherwise) if chain is not None)
    return ()


def _require_order(node: ParallelNode) -> None:
    """Edges only lead from a branch to a later one: that there is such an order means that nothing goes in circles."""
    if len(node.edges) > MAX_EDGES:
        raise GraphError(f"{node.id!r}: a graph has at most {MAX_EDGES} edges")
    place = {name: number for number, name in enumerate(node.branches)}
    for source, target, _ in node.edges:
        if source not in place or target not in place:
            raise GraphError(f"{node.id!r}: an edge leads from {source!r} to {target!r}, which are not both there")
        if place[source] >= place[target]:
            raise GraphError(f"{node.id!r}: the edge from {source!r} to {target!r} leads back")


def require_bounded(node: Node) -> None:
    """Raise GraphError when one of the node's numbers is outside its bounds."""
    bounds: dict[str, tuple[int, int]] = {}
    if isinstance(node, ParallelNode):
        bounds["branches"] = (len(node.branches), MAX_BRANCHES)
        _require_order(node)
        if node.join == JoinMode.QUORUM:
            bounds["quorum"] = (node.quorum, len(node.branches))
    elif isinstance(node, BranchNode):
        bounds["cases"] = (len(node.cases), MAX_BRANCHES)
    elif isinstance(node, MapNode):
        bounds["max_items"] = (node.max_items, MAX_ITEMS)
        bounds["concurrency"] = (node.concurrency, MAX_CONCURRENCY)
        if node.reducer is not None:
            bounds["fan_in - 1"] = (node.fan_in - 1, MAX_FAN_IN - 1)
    elif isinstance(node, LoopNode):
        bounds["max_iterations"] = (node.max_iterations, MAX_ITERATIONS)
    elif isinstance(node, WaitNode) and not 0 < node.timeout_seconds <= MAX_WAIT_SECONDS:
        raise GraphError(f"{node.id!r}: a wait is longer than nothing and at most {MAX_WAIT_SECONDS:g} s")
    for name, (number, most) in bounds.items():
        if not 1 <= number <= most:
            raise GraphError(f"{node.id!r}: {name} is {number}; it is between 1 and {most}")
