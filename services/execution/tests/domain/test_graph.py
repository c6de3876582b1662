from __future__ import annotations

from typing import Any

import orjson
import pytest

from execution.domain.compiler import compile_agent, compile_orchestration
from execution.domain.definitions import parse_agent, parse_orchestration
from execution.domain.graph import Graph, require_sound, retry_of
from execution.domain.nodes import (
    NODE_KINDS,
    AgentNode,
    BranchNode,
    GraphError,
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
from execution.domain.retries import DEFAULT_RETRY, RetryPolicy
from execution.domain.templates import compile_template


def graph_of(*nodes: Node, **options: Any) -> Graph:
    return Graph(start=nodes[0].id, nodes={node.id: node for node in nodes}, **options)


EVERY_KIND = graph_of(
    ParallelNode(
        id="fork", next="each", branches=("one", "two"), join=JoinMode.QUORUM, quorum=1, on_branch_error=OnError.SKIP
    ),
    AgentNode(
        id="one",
        next="one_b",
        agent="x",
        input=compile_template({"a": "${input.a}"}),
        retry=RetryPolicy(max_attempts=7),
    ),
    ToolNode(id="one_b", agent="crm", tool="read", timeout_seconds=3.0),
    WaitNode(id="two", wait=Wait.TIMER, timeout_seconds=60.0),
    MapNode(
        id="each",
        next="choose",
        over=compile_template("${input.items}"),
        body="body",
        concurrency=2,
        item_error=OnError.SKIP,
    ),
    AgentNode(id="body", agent="y", input=compile_template("${item}")),
    BranchNode(id="choose", next="again", cases=((compile_template("${input.n > 1}"), "sub"),), otherwise="other"),
    SubrunNode(id="sub", orchestration="child"),
    AgentNode(id="other", agent="z"),
    LoopNode(
        id="again",
        body="try",
        until=compile_template("${steps.try.output.ok}"),
        max_iterations=3,
        on_exhausted=OnError.SKIP,
    ),
    AgentNode(id="try", agent="y"),
    max_steps=77,
    retry=RetryPolicy(max_attempts=2),
    step_timeout_seconds=9.5,
)


def test_a_graph_of_every_kind_is_sound_and_survives_storage() -> None:
    require_sound(EVERY_KIND)
    assert {node.kind for node in EVERY_KIND.nodes.values()} == set(NODE_KINDS)
    assert len(NODE_KINDS) == 8
    stored = orjson.dumps(EVERY_KIND.to_json())
    read = Graph.from_json(orjson.loads(stored))
    assert read == EVERY_KIND
    assert orjson.dumps(read.to_json()) == stored
    assert read.aliases == ("crm", "x", "y", "z")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([AgentNode(id="a", agent="x", next="gone")], "no node 'gone'"),
        ([AgentNode(id="a", agent="x", next="b"), AgentNode(id="b", agent="x", next="a")], "reached twice"),
        ([AgentNode(id="a", agent="x"), AgentNode(id="b", agent="x")], "never reached: b"),
        ([ParallelNode(id="p", branches=("a", "a")), AgentNode(id="a", agent="x")], "reached twice"),
        ([ParallelNode(id="p", branches=())], "branches is 0"),
        (
            [ParallelNode(id="p", branches=("a",), join=JoinMode.QUORUM, quorum=2), AgentNode(id="a", agent="x")],
            "quorum is 2",
        ),
        (
            [
                LoopNode(id="l", body="a", until=compile_template("${true}"), max_iterations=101),
                AgentNode(id="a", agent="x"),
            ],
            "max_iterations",
        ),
        (
            [MapNode(id="m", over=compile_template([]), body="a", max_items=1001), AgentNode(id="a", agent="x")],
            "max_items",
        ),
        (
            [
                MapNode(id="m", over=compile_template([]), body="l"),
                LoopNode(id="l", body="a", until=compile_template("${true}"), max_iterations=1),
                AgentNode(id="a", agent="x"),
            ],
            "must be a subrun",
        ),
        ([BranchNode(id="b", cases=())], "cases is 0"),
    ],
)
def test_unsound_graphs_are_refused(nodes: list[Node], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        require_sound(graph_of(*nodes))


def test_size_is_bounded() -> None:
    many = tuple(AgentNode(id=f"a{n}", agent="x") for n in range(101))
    fork = ParallelNode(id="p", branches=tuple(node.id for node in many))
    with pytest.raises(GraphError, match="branches is 101"):
        require_sound(graph_of(fork, *many))
    nested = [ParallelNode(id=f"p{n}", branches=(f"p{n + 1}",)) for n in range(9)]
    with pytest.raises(GraphError, match="nested deeper"):
        require_sound(graph_of(*nested, AgentNode(id="p9", agent="x")))
    with pytest.raises(GraphError, match="between 1 and"):
        require_sound(graph_of(AgentNode(id="a", agent="x"), max_steps=0))


@pytest.mark.parametrize("change", [{"format": 2}, {"nodes": [{"kind": "robot", "id": "a"}]}])
def test_what_another_version_stored_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="cannot be read here"):
        Graph.from_json(EVERY_KIND.to_json() | change)


def test_the_nearest_retry_policy_counts() -> None:
    own, of_agent, of_graph = (RetryPolicy(max_attempts=number) for number in (7, 8, 9))
    plain, special = AgentNode(id="a", agent="x"), AgentNode(id="a", agent="x", retry=own)
    assert retry_of(graph_of(special, retry=of_graph), special, of_agent) is own
    assert retry_of(graph_of(plain, retry=of_graph), plain, of_agent) is of_agent
    assert retry_of(graph_of(plain, retry=of_graph), plain, None) is of_graph
    assert retry_of(graph_of(plain), plain, None) is DEFAULT_RETRY


def test_definitions_compile() -> None:
    agent = compile_agent(
        parse_agent("apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}\nretry: {max: 2}\n")
    )
    assert list(agent.nodes) == ["agent"]
    assert agent.max_steps == 1
    flow = "apiVersion: orchestration/v1\npattern: parallel\nbranches: [{id: a, agent: x}, {id: b, agent: y, timeout: 5s}]\nmerge: {agent: z, in: '${steps.a.output}'}\n"
    parallel = compile_orchestration(parse_orchestration(flow))
    assert parallel.aliases == ("x", "y", "z")
    assert parallel.nodes["b"].timeout_seconds == 5  # type: ignore[union-attr]
    assert Graph.from_json(orjson.loads(orjson.dumps(parallel.to_json()))) == parallel
