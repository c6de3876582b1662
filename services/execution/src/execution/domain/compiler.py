"""Definitions to graphs."""

from __future__ import annotations

from execution.domain.agents import AgentSpec
from execution.domain.definitions import Definition
from execution.domain.graph import Graph, require_sound
from execution.domain.nodes import AgentNode, BranchNode, JoinMode, LoopNode, MapNode, Node, OnError, ParallelNode
from execution.domain.orchestrations import (
    BODY,
    CLASSIFY,
    JUDGE,
    MAP,
    MERGE,
    OTHERWISE,
    REDUCE,
    LoopUntil,
    MapReduce,
    OrchestrationSpec,
    Parallel,
    Router,
    Sequential,
    Work,
)
from execution.domain.shapes import policy_of
from execution.domain.templates import Template, compile_template

AGENT_NODE = "agent"
SELF_ALIAS = "self"
PARALLEL_NODE, ROUTER_NODE, MAP_NODE, LOOP_NODE = "$parallel", "$router", "$map", "$loop"
WHOLE_INPUT = "${input}"
GATHERED = ("input", "previous")
"""What a step reads that has no single step before it: all outputs of a map, or its own last one."""
_DONE_BY_AGENT = f"has(steps.{JUDGE}.output.done) && steps.{JUDGE}.output.done == true"
_ROUTE_OF_AGENT = f'has(steps.{CLASSIFY}.output.route) ? steps.{CLASSIFY}.output.route : ""'


def compile_agent(definition: Definition[AgentSpec]) -> Graph:
    """The graph of a run of one agent: one node, `agent`, under the alias `self`."""
    spec = definition.spec
    node = AgentNode(id=AGENT_NODE, agent=SELF_ALIAS, retry=policy_of(spec.retry), timeout_seconds=spec.timeout_seconds)
    return Graph(start=AGENT_NODE, nodes={AGENT_NODE: node}, max_steps=1)


def compile_orchestration(definition: Definition[OrchestrationSpec]) -> Graph:
    """The graph that every run of this orchestration follows."""
    spec = definition.spec
    nodes = _nodes(spec)
    graph = Graph(
        start=nodes[0].id,
        nodes={node.id: node for node in nodes},
        max_steps=spec.limits.max_steps,
        retry=policy_of(spec.defaults.retry),
        step_timeout_seconds=spec.defaults.step_timeout,
    )
    require_sound(graph)
    return graph


def _nodes(spec: OrchestrationSpec) -> list[Node]:
    """The pattern's nodes, the first of them first."""
    if isinstance(spec, Sequential):
        return _sequence(spec)
    if isinstance(spec, Parallel):
        return _parallel(spec)
    if isinstance(spec, Router):
        return _router(spec)
    return _map_reduce(spec) if isinstance(spec, MapReduce) else _loop(spec)


def _sequence(spec: Sequential) -> list[Node]:
    following = [*(step.id for step in spec.steps[1:]), None]
    return [_agent(step, step.agent, step.id, after) for step, after in zip(spec.steps, following, strict=True)]


def _parallel(spec: Parallel) -> list[Node]:
    fork = ParallelNode(
        id=PARALLEL_NODE,
        next=MERGE if spec.merge else None,
        branches=tuple(branch.id for branch in spec.branches),
        join=JoinMode(spec.join.mode),
        quorum=spec.join.quorum or 0,
        on_branch_error=OnError(spec.join.on_branch_error),
    )
    branches = [_agent(branch, branch.agent, branch.id) for branch in spec.branches]
    return [fork, *branches, *([_agent(spec.merge, spec.merge.agent, MERGE)] if spec.merge else [])]


def _router(spec: Router) -> list[Node]:
    classifier, chosen = spec.classifier, spec.classifier.expr or _ROUTE_OF_AGENT
    fork = BranchNode(
        id=ROUTER_NODE,
        cases=tuple((_is_chosen(chosen, name), name) for name in spec.routes),
        otherwise=OTHERWISE if spec.otherwise else None,
    )
    # Behind a classifier's agent, what came before is its word; what is to be routed is the run's input.
    default = compile_template(WHOLE_INPUT) if classifier.agent else None
    ways = [_agent(step, step.agent, name, default=default) for name, step in spec.routes.items()]
    if spec.otherwise:
        ways.append(_agent(spec.otherwise, spec.otherwise.agent, OTHERWISE, default=default))
    first = [_agent(classifier, classifier.agent, CLASSIFY, ROUTER_NODE)] if classifier.agent else []
    return [*first, fork, *ways]


def _is_chosen(expression: str, route: str) -> Template:
    return compile_template(f'${{({expression}) == "{route}"}}', ("input", "steps"))


def _map_reduce(spec: MapReduce) -> list[Node]:
    each = MapNode(
        id=MAP_NODE,
        next=REDUCE if spec.reduce else None,
        over=compile_template(spec.over, ("input",)),
        body=MAP,
        item_name=spec.item_name,
        concurrency=spec.concurrency,
        max_items=spec.max_items,
        item_error=OnError(spec.item_error),
    )
    body = _agent(spec.map, spec.map.agent, MAP, roots=("input", spec.item_name))
    return [each, body, *([_agent(spec.reduce, spec.reduce.agent, REDUCE, roots=GATHERED)] if spec.reduce else [])]


def _loop(spec: LoopUntil) -> list[Node]:
    judge = spec.judge
    again = LoopNode(
        id=LOOP_NODE,
        body=BODY,
        until=compile_template(f"${{{judge.expr or _DONE_BY_AGENT}}}", ("input", "steps")),
        max_iterations=spec.max_iterations,
        on_exhausted=OnError.FAIL if spec.on_exhausted == "fail" else OnError.SKIP,
        result=BODY if judge.agent else None,
    )
    body = _agent(spec.body, spec.body.agent, BODY, JUDGE if judge.agent else None, roots=GATHERED)
    return [again, body, *([_agent(judge, judge.agent, JUDGE)] if judge.agent else [])]


def _agent(
    work: Work,
    agent: str,
    node_id: str,
    following: str | None = None,
    *,
    roots: tuple[str, ...] = ("input", "steps"),
    default: Template | None = None,
) -> AgentNode:
    return AgentNode(
        id=node_id,
        next=following,
        agent=agent,
        input=compile_template(work.input, roots) if work.has_input else default,
        retry=policy_of(work.retry),
        timeout_seconds=work.timeout,
    )
