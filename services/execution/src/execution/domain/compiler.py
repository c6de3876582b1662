"""Definitions to graphs."""

from __future__ import annotations

from execution.domain.agents import AgentSpec
from execution.domain.definitions import Definition
from execution.domain.graph import Graph, require_sound
from execution.domain.nodes import AgentNode, JoinMode, Node, OnError, ParallelNode
from execution.domain.orchestrations import MERGE, OrchestrationSpec, Parallel, Sequential, StepShape
from execution.domain.shapes import policy_of
from execution.domain.templates import compile_template

AGENT_NODE = "agent"
SELF_ALIAS = "self"
PARALLEL_NODE = "$parallel"


def compile_agent(definition: Definition[AgentSpec]) -> Graph:
    """The graph of a run of one agent: one node, `agent`, under the alias `self`."""
    spec = definition.spec
    node = AgentNode(id=AGENT_NODE, agent=SELF_ALIAS, retry=policy_of(spec.retry), timeout_seconds=spec.timeout_seconds)
    return Graph(start=AGENT_NODE, nodes={AGENT_NODE: node}, max_steps=1)


def compile_orchestration(definition: Definition[OrchestrationSpec]) -> Graph:
    """The graph that every run of this orchestration follows."""
    spec = definition.spec
    nodes = _sequence(spec) if isinstance(spec, Sequential) else _parallel(spec)
    graph = Graph(
        start=nodes[0].id,
        nodes={node.id: node for node in nodes},
        max_steps=spec.limits.max_steps,
        retry=policy_of(spec.defaults.retry),
        step_timeout_seconds=spec.defaults.step_timeout,
    )
    require_sound(graph)
    return graph


def _sequence(spec: Sequential) -> list[Node]:
    following = [*(step.id for step in spec.steps[1:]), None]
    return [_agent(step, step.id, after) for step, after in zip(spec.steps, following, strict=True)]


def _parallel(spec: Parallel) -> list[Node]:
    fork = ParallelNode(
        id=PARALLEL_NODE,
        next=MERGE if spec.merge else None,
        branches=tuple(branch.id for branch in spec.branches),
        join=JoinMode(spec.join.mode),
        quorum=spec.join.quorum or 0,
        on_branch_error=OnError(spec.join.on_branch_error),
    )
    branches = [_agent(branch, branch.id, None) for branch in spec.branches]
    return [fork, *branches, *([_agent(spec.merge, MERGE, None)] if spec.merge else [])]


def _agent(step: StepShape, node_id: str, following: str | None) -> AgentNode:
    return AgentNode(
        id=node_id,
        next=following,
        agent=step.agent,
        input=compile_template(step.input, ("input", "steps")) if step.has_input else None,
        retry=policy_of(step.retry),
        timeout_seconds=step.timeout,
    )
