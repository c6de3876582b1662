"""Supervisors, handoffs, approvals and graphs: what is accepted, and how it runs to its end."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.domain.test_definitions import refused
from services.execution.tests.domain.test_patterns import graph_of, run, said

from execution.domain.graph import Graph
from execution.domain.interpreter import Finished, next_work
from execution.domain.nodes import OnError, Wait, WaitNode
from execution.domain.runs import StepStatus
from execution.domain.walk import Outcome, Ready, StepKey

START = "apiVersion: orchestration/v1\n"
SUPERVISOR = START + "pattern: supervisor\nsupervisor: lead\nworkers: [finder, writer]\nmax_rounds: 3\n"
HANDOFF = (
    START + "pattern: handoff\nstart: triage\nedges: {triage: [sales, support], sales: [triage]}\nmax_handoffs: 3\n"
)
APPROVAL = (
    START
    + """\
pattern: approval
input_schema: {type: object, properties: {amount: {type: number}, to: {type: string}}}
before: {agent: payer}
approvers: {roles: [operator]}
bind: [amount]
expires: 2h
"""
)
DIAMOND = (
    START
    + """\
pattern: graph
nodes:
  - {id: read, agent: reader}
  - {id: legal, agent: lawyer}
  - {id: risk, agent: analyst, in: {of: "${steps.read.output.of}"}}
  - {id: sum, agent: writer}
edges:
  - {from: legal, to: sum}
  - {from: read, to: legal, when: steps.read.output.of.n > 5}
  - {from: read, to: risk}
  - {from: risk, to: sum}
"""
)
WAITS = (
    START
    + """\
pattern: sequential
steps:
  - {id: draft, agent: writer}
  - {id: pause, timer: {for: 10m}}
  - {id: paid, signal: {name: payment, timeout: 1h, on_timeout: continue}}
  - {id: ask, approval: {approvers: {roles: [operator]}, on_reject: continue}, in: {text: "${steps.draft.output.of}"}}
  - {id: later, timer: {until: "${input.at}"}}
  - {id: send, agent: sender, in: {said: "${steps.ask.output.outcome}", paid: "${steps.paid.output}"}}
"""
)


def test_a_supervisor_gives_work_round_after_round_until_it_is_done() -> None:
    asked: list[Any] = []

    def does(agent: str, value: Any, iteration: int) -> Any:
        if agent != "lead":
            return {"found": f"{agent}: {value}"}
        asked.append(value)
        return [{"worker": "finder", "task": "look"}, {"worker": "writer"}, {"done": True, "answer": 42}][iteration]

    end, calls = run(graph_of(SUPERVISOR), {"q": 1}, does)
    assert [agent for agent, _ in calls] == ["lead", "finder", "lead", "writer", "lead"]
    assert end.output == {"done": True, "answer": 42}
    assert asked[0] == {"input": {"q": 1}, "workers": ["finder", "writer"], "history": []}
    assert asked[2]["history"] == [
        {"supervise": {"worker": "finder", "task": "look"}, "finder": {"found": "finder: look"}},
        {"supervise": {"worker": "writer"}, "writer": {"found": "writer: {'q': 1}"}},
    ]
    assert calls[1] == ("finder", "look")


def test_a_supervisor_is_bounded_stopped_by_a_rule_and_knows_its_workers() -> None:
    def busy(agent: str, _value: Any, _iteration: int) -> Any:
        return {"worker": "finder"} if agent == "lead" else {"enough": True}

    end, calls = run(graph_of(SUPERVISOR), {}, busy)
    assert (end.error_code, len(calls)) == ("loop_exhausted", 6)
    stopped, calls = run(graph_of(SUPERVISOR + "stop_when: steps.finder.output.enough\n"), {}, busy)
    assert (stopped.output, len(calls)) == ({"enough": True}, 2)
    unknown, _ = run(graph_of(SUPERVISOR), {}, lambda *_: {"worker": "nobody"})
    assert unknown.error_code == "no_route"


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ("full", {"input": {"q": 1}, "history": [{"triage": {"handoff": "sales", "why": "money"}}]}),
        ("summary", {"input": {"q": 1}, "previous": {"handoff": "sales", "why": "money"}}),
    ],
)
def test_agents_pass_a_run_on_until_one_keeps_it(context: str, told: Any) -> None:
    def does(agent: str, value: Any, _iteration: int) -> Any:
        return {"handoff": "sales", "why": "money"} if agent == "triage" else said(agent, value, 0)

    end, calls = run(graph_of(HANDOFF + f"context: {context}\n"), {"q": 1}, does)
    assert calls[1] == ("sales", told)
    assert end.output == {"by": "sales", "of": told}
    empty = {"input": {"q": 1}} | ({"history": []} if context == "full" else {"previous": None})
    assert calls[0] == ("triage", empty)


def test_a_run_is_handed_only_along_the_edges_and_only_so_often() -> None:
    def forbidden(agent: str, _value: Any, _iteration: int) -> Any:
        return {"handoff": "support" if agent == "sales" else "sales"}

    end, calls = run(graph_of(HANDOFF), {}, forbidden)
    assert (end.error_code, [agent for agent, _ in calls]) == ("no_route", ["triage", "sales"])

    def endless(agent: str, _value: Any, _iteration: int) -> Any:
        return {"handoff": "triage" if agent == "sales" else "sales"}

    end, calls = run(graph_of(HANDOFF), {}, endless)
    assert (end.error_code, len(calls)) == ("loop_exhausted", 4)
    plain, _ = run(graph_of(HANDOFF), {}, lambda *_: "kept")
    assert plain.output == "kept"


def test_an_approval_shows_what_it_binds_and_gates_the_agent() -> None:
    graph = graph_of(APPROVAL)
    asked = next_work(graph, {"amount": 7, "to": "x"}, {}).ready[0]
    node = asked.node
    assert isinstance(node, WaitNode)
    assert (node.wait, node.approvers, node.timeout_seconds, asked.input) == (
        Wait.APPROVAL, ("role:operator",), 7200.0, {"amount": 7},
    )  # fmt: skip
    yes = {StepKey("approve"): Outcome(StepStatus.COMPLETED, {"outcome": "approved"})}
    assert next_work(graph, {"amount": 7, "to": "x"}, yes).ready[0].input == {"amount": 7, "to": "x"}
    no = {StepKey("approve"): Outcome(StepStatus.FAILED, None, "approval_rejected")}
    finished = next_work(graph, {"amount": 7, "to": "x"}, no).finished
    assert finished is not None
    assert finished.error_code == "approval_rejected"


@pytest.mark.parametrize(("n", "called"), [(9, {"lawyer", "analyst"}), (1, {"analyst"})])
def test_a_node_starts_after_all_before_it_and_is_passed_over_without_an_edge(n: int, called: set[str]) -> None:
    end, calls = run(graph_of(DIAMOND), {"n": n}, said)
    assert calls[0][0] == "reader"
    assert {agent for agent, _ in calls[1:-1]} == called
    agent, given_to_it = calls[-1]
    assert agent == "writer"
    analyst = {"by": "analyst", "of": {"of": {"n": n}}}
    both = {"legal": {"by": "lawyer", "of": {"by": "reader", "of": {"n": n}}}, "risk": analyst}
    assert given_to_it == (both if n > 5 else analyst)
    assert end.output == {"by": "writer", "of": given_to_it}


def test_a_graph_ends_with_its_last_nodes_or_with_the_first_that_fails() -> None:
    open_ended = DIAMOND.replace("  - {from: legal, to: sum}\n", "").replace("  - {from: risk, to: sum}\n", "")
    end, _ = run(graph_of(open_ended), {"n": 9}, lambda agent, *_: {"of": {"n": 9}, "by": agent})
    assert {name: output["by"] for name, output in end.output.items()} == {
        "legal": "lawyer", "risk": "analyst", "sum": "writer",
    }  # fmt: skip
    failed, _ = run(
        graph_of(DIAMOND), {"n": 9}, lambda agent, *_: ValueError if agent == "lawyer" else {"of": {"n": 9}}
    )
    assert (failed.status, failed.error_code, failed.error_node) == ("failed", "broken", "legal")


def test_a_sequence_waits_in_between_and_goes_on_with_what_came() -> None:
    graph = graph_of(WAITS)
    assert [graph.nodes[name].kind for name in ("pause", "paid", "ask", "later")] == ["wait"] * 4
    value = {"at": "2026-01-01T00:00:00Z"}
    completed = {StepKey("draft"): Outcome(StepStatus.COMPLETED, {"of": "text"})}
    pause = next_work(graph, value, completed).ready[0]
    assert (pause.node.id, pause.input, pause.until) == ("pause", {"of": "text"}, None)
    completed[StepKey("pause")] = Outcome(StepStatus.COMPLETED, pause.input)
    signal = next_work(graph, value, completed).ready[0].node
    assert isinstance(signal, WaitNode)
    assert (signal.signal, signal.timeout_seconds, signal.on_refusal) == ("payment", 3600.0, OnError.SKIP)
    completed[StepKey("paid")] = Outcome(StepStatus.COMPLETED, 12)
    assert next_work(graph, value, completed).ready[0].input == {"text": "text"}
    completed[StepKey("ask")] = Outcome(StepStatus.COMPLETED, {"outcome": "rejected"})
    assert next_work(graph, value, completed).ready[0].until == value["at"]
    completed[StepKey("later")] = Outcome(StepStatus.COMPLETED, None)
    assert next_work(graph, value, completed).ready[0].input == {"said": "rejected", "paid": 12}


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        (SUPERVISOR, ("finder, writer", "finder, finder"), [("workers[1]", "duplicate_id")]),
        (SUPERVISOR, ("finder, writer", "supervise"), [("workers[0]", "duplicate_id")]),
        (SUPERVISOR, ("max_rounds: 3", "stop_when: steps.nobody.output"), [("stop_when", "unknown_reference")]),
        (SUPERVISOR, ("max_rounds: 3", "max_rounds: 101"), [("max_rounds", "invalid_value")]),
        (HANDOFF, ("sales: [triage]", "other: [triage]"), [("edges.other", "unknown_reference")]),
        (HANDOFF, ("max_handoffs: 3", "max_handoffs: 100"), [("max_handoffs", "invalid_value")]),
        (APPROVAL, ("bind: [amount]", "bind: [total]"), [("bind[0]", "unknown_reference")]),
        (APPROVAL, ("[operator]}", "[operator], count: 2}"), [("approvers.count", "not_supported_yet")]),
        (APPROVAL, ("expires: 2h", "expires: 31d"), [("expires", "invalid_value")]),
        (DIAMOND, ("{from: risk, to: sum}", "{from: sum, to: read}"), [("edges", "invalid_value")]),
        (DIAMOND, ("{from: risk, to: sum}", "{from: risk, to: nowhere}"), [("edges[3].to", "unknown_reference")]),
        (DIAMOND, ("{from: risk, to: sum}", "{from: read, to: risk}"), [("edges[3]", "duplicate_id")]),
        (DIAMOND, ("steps.read.output.of.n > 5", "steps.sum.output.ok"), [("edges[1].when", "unknown_reference")]),
        (DIAMOND, ('of: "${steps.read', 'of: "${steps.legal'), [("nodes[2].in.of", "unknown_reference")]),
        (WAITS, ("{for: 10m}", "{for: 10m, until: x}"), [("steps[1].timer", "invalid_value")]),
        (WAITS, ("timer: {for: 10m}", "agent: x, timer: {for: 10m}"), [("steps[1]", "invalid_value")]),
        (WAITS, (", timer: {for: 10m}", ""), [("steps[1]", "invalid_value")]),
        (WAITS, ("${input.at}", "${steps.send.output}"), [("steps[4].timer.until", "unknown_reference")]),
    ],
)
def test_each_fault_is_named_with_its_place(text: str, change: tuple[str, str], expected: list[Any]) -> None:
    assert change[0] in text
    assert [(path, code) for _, path, code in refused(text.replace(*change))] == expected


@given(
    st.integers(2, 8).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 2), st.integers(1, n - 1))))
    ),
    st.integers(),
)
def test_in_any_graph_and_any_order_each_node_runs_once_after_all_before_it(shape: Any, seed: int) -> None:
    count, pairs = shape
    edges = {(one, other) for one, other in pairs if one < other}
    nodes = "".join(f"  - {{id: n{number}, agent: a}}\n" for number in random.Random(seed).sample(range(count), count))
    listed = "".join(f"  - {{from: n{one}, to: n{other}}}\n" for one, other in edges)
    graph = graph_of(START + "pattern: graph\nnodes:\n" + nodes + ("edges:\n" + listed if edges else ""))
    ends, orders = zip(*(_followed(graph, random.Random(seed + more)) for more in (1, 2)), strict=True)
    assert ends[0] == ends[1]
    for order in orders:
        assert sorted(order) == sorted(f"n{number}" for number in range(count))
        assert all(order.index(f"n{one}") < order.index(f"n{other}") for one, other in edges)


def _followed(graph: Graph, order: random.Random) -> tuple[Finished, list[str]]:
    completed: dict[StepKey, Outcome] = {}
    ended: list[str] = []
    while (plan := next_work(graph, {}, completed)).finished is None:
        step: Ready = order.choice(plan.ready)
        completed[StepKey(step.node.id)] = Outcome(StepStatus.COMPLETED, {"by": step.node.id, "of": step.input})
        ended.append(step.node.id)
    return plan.finished, ended
