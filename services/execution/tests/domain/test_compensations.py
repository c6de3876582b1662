"""When a run fails, what had completed is undone, the last one first, and the run has failed as it had."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.domain.test_definitions import refused
from services.execution.tests.domain.test_patterns import graph_of, run

from execution.domain.interpreter import next_work
from execution.domain.runs import StepStatus
from execution.domain.walk import Outcome, StepKey

TRIP = """\
apiVersion: orchestration/v1
pattern: sequential
steps:
  - {id: flight, agent: airline}
  - {id: hotel, agent: hotel, in: {trip: "${input.trip}"}}
  - {id: pay, agent: bank}
on_failure:
  compensate:
    - {step: flight, agent: airline, in: {cancel: "${steps.flight.output.booking}", because: "${input.trip}"}}
    - {step: hotel, agent: hotel}
"""


def does(*failing: str) -> Any:
    def one(agent: str, value: Any, _iteration: int) -> Any:
        what = f"{agent} cancels" if isinstance(value, dict) and ("cancel" in value or "booking" in value) else agent
        return ValueError if what in failing or (agent == "bank" and "bank" in failing) else {"booking": agent}

    return one


def test_what_had_completed_is_undone_the_last_one_first() -> None:
    graph = graph_of(TRIP)
    end, calls = run(graph, {"trip": 1}, does("bank"))
    assert [agent for agent, _ in calls] == ["airline", "hotel", "bank", "hotel", "airline"]
    assert calls[3:] == [("hotel", {"booking": "hotel"}), ("airline", {"cancel": "airline", "because": 1})]
    assert (end.status, end.error_code, end.error_node) == ("failed", "broken", "pay")
    assert set(end.output) == {"flight", "hotel", "undo_flight", "undo_hotel"}


def test_what_never_was_is_not_undone_and_a_run_that_completes_undoes_nothing() -> None:
    def early(agent: str, _value: Any, _iteration: int) -> Any:
        return ValueError if agent == "hotel" else {"booking": agent}

    _, calls = run(graph_of(TRIP), {"trip": 1}, early)
    assert [agent for agent, _ in calls] == ["airline", "hotel", "airline"]
    end, calls = run(graph_of(TRIP), {"trip": 1}, does())
    assert (end.status, len(calls)) == ("completed", 3)


def test_undoing_that_fails_keeps_nothing_else_from_being_undone() -> None:
    end, calls = run(graph_of(TRIP), {"trip": 1}, does("bank", "hotel cancels"))
    assert [agent for agent, _ in calls][3:] == ["hotel", "airline"]
    assert (end.error_code, end.error_node) == ("broken", "pay")


@given(st.integers())
def test_beside_branches_that_are_given_up_only_what_completed_is_undone(seed: int) -> None:
    text = """\
apiVersion: orchestration/v1
pattern: parallel
branches: [{id: a, agent: one}, {id: b, agent: two}, {id: c, agent: bad}]
on_failure: {compensate: [{step: a, agent: one}, {step: b, agent: two}]}
"""
    graph, order = graph_of(text), random.Random(seed)
    completed: dict[StepKey, Outcome] = {}
    while (plan := next_work(graph, {}, completed)).finished is None:
        completed |= {key: Outcome(StepStatus.SKIPPED) for key in plan.skipped}
        assert next_work(graph, {}, completed)[:2] == plan[:2]
        step = order.choice(plan.ready)
        failed = step.node.id == "c"
        outcome = (
            Outcome(StepStatus.FAILED, None, "broken")
            if failed
            else Outcome(StepStatus.COMPLETED, {"of": step.node.id})
        )
        completed[StepKey(step.node.id)] = outcome
    done = {key.node for key, outcome in completed.items() if outcome.status == StepStatus.COMPLETED}
    assert {f"undo_{name}" for name in ("a", "b") if name in done} == {
        name for name in done if name.startswith("undo_")
    }
    assert plan.finished.error_node == "c"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("step: hotel, agent: hotel}\n", "step: car, agent: hotel}\n"), [("on_failure.compensate[1].step", "unknown_reference")]),
        (("step: hotel, agent: hotel}\n", "step: flight, agent: hotel}\n"), [("on_failure.compensate[1].step", "duplicate_id")]),
        (("id: pay,", "id: undo_hotel,"), [("on_failure.compensate[1].step", "duplicate_id")]),
        (("steps.flight.output.booking", "steps.car.output"), [("on_failure.compensate[0].in.cancel", "unknown_reference")]),
        (("on_failure:\n", "on_failure:\n  notify: [team_lead]\n"), [("on_failure.notify", "not_supported_yet")]),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert change[0] in TRIP
    assert [(path, code) for _, path, code in refused(TRIP.replace(*change))] == expected


def test_steps_that_repeat_cannot_be_undone() -> None:
    text = "apiVersion: orchestration/v1\npattern: loop_until\nbody: {agent: a}\njudge: {expr: 'true'}\nmax_iterations: 2\n"
    text += "on_failure: {compensate: [{step: body, agent: a}]}\n"
    assert [(path, code) for _, path, code in refused(text)] == [
        ("on_failure.compensate[0].step", "unknown_reference")
    ]  # fmt: skip


@pytest.mark.parametrize("order", [("slow", "bad"), ("bad", "slow")])
def test_in_a_graph_what_failed_is_undone_whatever_was_under_way_beside_it(order: tuple[str, str]) -> None:
    one, two = order
    graph = graph_of(f"""\
apiVersion: orchestration/v1
pattern: graph
nodes: [{{id: first, agent: a}}, {{id: {one}, agent: a}}, {{id: {two}, agent: a}}]
edges: [{{from: first, to: {one}}}, {{from: first, to: {two}}}]
on_failure: {{compensate: [{{step: first, agent: a}}]}}
""")
    completed = {
        StepKey("first"): Outcome(StepStatus.COMPLETED, 1),
        StepKey("bad"): Outcome(StepStatus.FAILED, None, "x"),
    }
    plan = next_work(graph, {}, completed)
    assert ([step.node.id for step in plan.ready], plan.skipped) == (["undo_first"], (StepKey("slow"),))
    completed[StepKey("slow")] = Outcome(StepStatus.SKIPPED)
    assert next_work(graph, {}, completed)[:2] == plan[:2]
    completed[StepKey("undo_first")] = Outcome(StepStatus.COMPLETED)
    end = next_work(graph, {}, completed).finished
    assert end is not None
    assert (end.error_code, end.error_node) == ("x", "bad")
