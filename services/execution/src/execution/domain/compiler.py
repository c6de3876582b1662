"""Definitions to graphs, pattern by pattern; their steps to nodes is in `step_nodes.py`."""

from __future__ import annotations

from execution.domain.agents import AgentSpec
from execution.domain.definitions import Definition
from execution.domain.graph import Graph, require_sound
from execution.domain.nodes import (
    AgentNode,
    BranchNode,
    CallNode,
    Edge,
    JoinMode,
    LoopNode,
    MapNode,
    Node,
    OnError,
    ParallelNode,
)
from execution.domain.orchestrations import (
    ACT,
    APPROVE,
    BODY,
    CLASSIFY,
    JUDGE,
    MAP,
    MERGE,
    OTHERWISE,
    REDUCE,
    SUPERVISE,
    UNDO,
    Approval,
    GraphPattern,
    Handoff,
    LoopUntil,
    MapReduce,
    OrchestrationSpec,
    Parallel,
    Router,
    Sequential,
    Supervisor,
)
from execution.domain.ordering import in_order
from execution.domain.shapes import policy_of
from execution.domain.step_nodes import GATHERED_STEPS, any_node, approval_node, call_node, run_node
from execution.domain.steps import Compensation
from execution.domain.templates import Template, compile_template

AGENT_NODE = "agent"
SELF_ALIAS = "self"
PARALLEL_NODE, ROUTER_NODE, MAP_NODE, LOOP_NODE, GRAPH_NODE = "$parallel", "$router", "$map", "$loop", "$graph"
WHOLE_INPUT = "${input}"
GATHERED = ("input", "previous")
"""What a step reads that has no single step before it: all outputs of a map, or its own last one."""
_DONE_BY_AGENT = f"has(steps.{JUDGE}.output.done) && steps.{JUDGE}.output.done == true"
_ROUTE_OF_AGENT = f'has(steps.{CLASSIFY}.output.route) ? steps.{CLASSIFY}.output.route : ""'
_SUPERVISED = f"steps.{SUPERVISE}.output"
_IS_DONE = f"has({_SUPERVISED}.done) && {_SUPERVISED}.done == true"
_WORKER = f'(has({_SUPERVISED}.worker) ? {_SUPERVISED}.worker : "")'
_TASK = f"${{has({_SUPERVISED}.task) ? {_SUPERVISED}.task : input}}"
_TO = '(type(previous) == map && has(previous.handoff) && previous.handoff != null ? previous.handoff : "")'
_AMONG = ("input", "steps", "previous", "chosen")


def compile_agent(definition: Definition[AgentSpec]) -> Graph:
    """The graph of a run of one agent: one node, `agent`, under the alias `self`."""
    spec = definition.spec
    node = AgentNode(id=AGENT_NODE, agent=SELF_ALIAS, retry=policy_of(spec.retry), timeout_seconds=spec.timeout_seconds)
    return Graph(start=AGENT_NODE, nodes={AGENT_NODE: node}, max_steps=1)


def compile_orchestration(definition: Definition[OrchestrationSpec]) -> Graph:
    """The graph that every run of this orchestration follows."""
    spec = definition.spec
    nodes = _nodes(spec)
    undoing = [(each.step, _undo(each)) for each in (spec.on_failure.compensate if spec.on_failure else ())]
    graph = Graph(
        start=nodes[0].id,
        nodes={node.id: node for node in (*nodes, *(node for _, node in undoing))},
        compensations=tuple((step, node.id) for step, node in undoing),
        max_steps=spec.limits.max_steps,
        retry=policy_of(spec.defaults.retry),
        step_timeout_seconds=spec.defaults.step_timeout,
    )
    require_sound(graph)
    return graph


def _undo(each: Compensation) -> CallNode:
    return call_node(each, each.agent or each.tool, UNDO + each.step, roots=GATHERED_STEPS)


def _nodes(spec: OrchestrationSpec) -> list[Node]:  # noqa: PLR0911
    """The pattern's nodes, the first of them first."""
    match spec:
        case Sequential():
            return _sequence(spec)
        case Parallel():
            return _parallel(spec)
        case Router():
            return _router(spec)
        case Supervisor():
            return _supervisor(spec)
        case MapReduce():
            return _map_reduce(spec)
        case LoopUntil():
            return _loop(spec)
        case Handoff():
            return _handoff(spec)
        case Approval():
            return _approval(spec)
        case GraphPattern():
            return _graph(spec)


def _sequence(spec: Sequential) -> list[Node]:
    following = [*(step.id for step in spec.steps[1:]), None]
    return [any_node(step, after) for step, after in zip(spec.steps, following, strict=True)]


def _parallel(spec: Parallel) -> list[Node]:
    fork = ParallelNode(
        id=PARALLEL_NODE,
        next=MERGE if spec.merge else None,
        branches=tuple(branch.id for branch in spec.branches),
        join=JoinMode(spec.join.mode),
        quorum=spec.join.quorum or 0,
        on_branch_error=OnError(spec.join.on_branch_error),
    )
    branches = [run_node(branch, branch.id) for branch in spec.branches]
    return [fork, *branches, *([run_node(spec.merge, MERGE)] if spec.merge else [])]


def _router(spec: Router) -> list[Node]:
    classifier, chosen = spec.classifier, spec.classifier.expr or _ROUTE_OF_AGENT
    fork = BranchNode(
        id=ROUTER_NODE,
        cases=tuple((_is_chosen(chosen, name), name) for name in spec.routes),
        otherwise=OTHERWISE if spec.otherwise else None,
    )
    # Behind a classifier's agent, what came before is its word; what is to be routed is the run's input.
    default = compile_template(WHOLE_INPUT) if classifier.agent else None
    ways = [run_node(step, name, default=default) for name, step in spec.routes.items()]
    if spec.otherwise:
        ways.append(run_node(spec.otherwise, OTHERWISE, default=default))
    first = [call_node(classifier, classifier.agent, CLASSIFY, ROUTER_NODE)] if classifier.agent else []
    return [*first, fork, *ways]


def _is_chosen(expression: str, route: str) -> Template:
    return compile_template(f'${{({expression}) == "{route}"}}', ("input", "steps"))


def _map_reduce(spec: MapReduce) -> list[Node]:
    fan_in = spec.reduce.fan_in if spec.reduce else None
    each = MapNode(
        id=MAP_NODE,
        next=REDUCE if spec.reduce and fan_in is None else None,
        reducer=REDUCE if fan_in else None,
        fan_in=fan_in or 0,
        over=compile_template(spec.over, ("input",)),
        body=MAP,
        item_name=spec.item_name,
        concurrency=spec.concurrency,
        max_items=spec.max_items,
        item_error=OnError(spec.item_error),
    )
    body = run_node(spec.map, MAP, roots=("input", spec.item_name))
    return [each, body, *([run_node(spec.reduce, REDUCE, roots=GATHERED)] if spec.reduce else [])]


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
    body = run_node(spec.body, BODY, JUDGE if judge.agent else None, roots=GATHERED)
    return [again, body, *([call_node(judge, judge.agent, JUDGE)] if judge.agent else [])]


def _supervisor(spec: Supervisor) -> list[Node]:
    until = f"({_IS_DONE}) || ({spec.stop_when})" if spec.stop_when else _IS_DONE
    rounds = LoopNode(
        id=LOOP_NODE,
        body=SUPERVISE,
        until=compile_template(f"${{{until}}}", ("input", "steps")),
        max_iterations=spec.max_rounds,
        remembers=True,
    )
    asked = {"input": WHOLE_INPUT, "workers": list(spec.workers), "history": "${history}"}
    lead = AgentNode(
        id=SUPERVISE, next=ROUTER_NODE, agent=spec.supervisor, input=compile_template(asked, ("input", "history"))
    )
    cases: list[tuple[Template, str | None]] = [(compile_template(f"${{{_IS_DONE}}}", ("input", "steps")), None)]
    cases += [(compile_template(f'${{{_WORKER} == "{name}"}}', ("input", "steps")), name) for name in spec.workers]
    task = compile_template(_TASK, ("input", "steps"))
    workers = [AgentNode(id=name, agent=name, input=task) for name in spec.workers]
    return [rounds, lead, BranchNode(id=ROUTER_NODE, cases=tuple(cases)), *workers]


def _handoff(spec: Handoff) -> list[Node]:
    turns = LoopNode(
        id=LOOP_NODE,
        body=ROUTER_NODE,
        until=compile_template(f'${{{_TO} == ""}}', _AMONG),
        max_iterations=spec.max_handoffs + 1,
        remembers=spec.context == "full",
    )
    told = {"input": WHOLE_INPUT, "history": "${history}"}
    if spec.context == "summary":
        told = {"input": WHOLE_INPUT, "previous": '${chosen == "" ? null : previous}'}
    given = compile_template(told, ("input", "previous", "history", "chosen"))
    agents = [AgentNode(id=name, agent=name, input=given) for name in spec.agents]
    cases = tuple((_is_next(spec, name), name) for name in spec.agents)
    return [turns, BranchNode(id=ROUTER_NODE, cases=cases), *agents]


def _is_next(spec: Handoff, name: str) -> Template:
    """Whether it is this agent's turn: the first time the start's, then whoever the last one may and did hand to."""
    givers = ", ".join(f'"{giver}"' for giver, targets in spec.edges.items() if name in targets)
    handed = f'chosen in [{givers}] && {_TO} == "{name}"' if givers else "false"
    return compile_template(f'${{chosen == "" || {handed}}}' if name == spec.start else f"${{{handed}}}", _AMONG)


def _approval(spec: Approval) -> list[Node]:
    ask = approval_node(APPROVE, ACT, spec)
    return [ask, run_node(spec.before, ACT, default=compile_template(WHOLE_INPUT))]


def _graph(spec: GraphPattern) -> list[Node]:
    edges = tuple(
        Edge(edge.source, edge.target, compile_template(f"${{{edge.when}}}", GATHERED_STEPS) if edge.when else None)
        for edge in spec.edges
    )
    if len(spec.nodes) == 1:
        return [any_node(spec.nodes[0], None)]
    order = in_order([node.id for node in spec.nodes], [(edge.source, edge.target) for edge in edges])
    whole = ParallelNode(id=GRAPH_NODE, branches=tuple(order), edges=edges)
    return [whole, *(any_node(node, None) for node in spec.nodes)]
