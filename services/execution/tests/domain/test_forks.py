from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.domain.drawn_graphs import INPUTS, Races, graphs, outcome_of

from execution.domain.forks import Change, Ended, differences, kept_of
from execution.domain.graph import Graph
from execution.domain.interpreter import next_work
from execution.domain.runs import StepStatus
from execution.domain.walk import Outcome, StepKey

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class Row:
    node: str
    iteration: int
    step_number: int
    completed_at: datetime | None = NOW
    kind: str = "agent"
    attempt: int = 1
    will_retry: bool = False
    error_code: str | None = None


@given(graphs(Races.WHERE_STEPS_FAIL), INPUTS, st.integers(), st.data())
def test_whatever_is_kept_is_all_that_the_rest_follows_from(graph: Graph, input: Any, seed: int, data: Any) -> None:
    """Forked anywhere without a change, a run asks for no step that it has kept, and ends as it did."""
    order, rows = random.Random(seed), list[Row]()
    completed: dict[StepKey, Outcome] = {}
    started: set[StepKey] = set()
    while (plan := next_work(graph, input, completed)).finished is None:
        for step in plan.ready:
            key = StepKey(step.node.id, step.iteration)
            if key not in started:
                started.add(key)
                rows.append(Row(*key, step_number=len(rows) + 1))
        step = order.choice(plan.ready)
        completed[StepKey(step.node.id, step.iteration)] = outcome_of(step, frozenset())
    if not rows:
        return
    point = data.draw(st.sampled_from(rows))
    kept = kept_of(rows, point.node, point.iteration)
    assert kept is not None
    again = {StepKey(row.node, row.iteration): completed[StepKey(row.node, row.iteration)] for row in kept}
    done: set[StepKey] = set()
    while (plan := next_work(graph, input, again)).finished is None:
        step = order.choice(plan.ready)
        key = StepKey(step.node.id, step.iteration)
        assert key not in again
        done.add(key)
        again[key] = outcome_of(step, frozenset())
    assert again == completed
    assert StepKey(point.node, point.iteration) in done


def test_what_has_not_ended_is_retried_stopped_or_was_approved_is_not_kept() -> None:
    rows = [
        Row("a", 0, 1),
        Row("b", 0, 2, will_retry=True),
        Row("b", 0, 3, attempt=2),
        Row("c", 0, 4, kind="approval"),
        Row("d", 0, 5, completed_at=None, kind="signal"),
        Row("e", 0, 6, error_code="timeout"),
        Row("h", 0, 6, error_code="killed"),
        Row("f", 0, 7),
        Row("g", 0, 8),
    ]
    kept = kept_of(rows, "f", 0)
    assert kept is not None
    assert [(row.node, row.attempt) for row in kept] == [("a", 1), ("b", 2), ("e", 1)]
    assert kept_of(rows, "f", 1) is None
    assert kept_of(rows, "a", 0) == []


def test_each_step_is_kept_same_changed_added_or_missing() -> None:
    def ended(node: str, output: Any, *, is_copy: bool = False) -> Ended:
        return Ended(node, 0, StepStatus.COMPLETED, output, is_copy)

    before = [ended("a", 1), ended("b", 2), ended("c", 3), ended("d", 4)]
    after = [ended("a", 1, is_copy=True), ended("b", 2), ended("c", 9), ended("e", 5)]
    found = {each.node: each.change for each in differences(before, after)}
    assert found == {
        "a": Change.KEPT, "b": Change.SAME, "c": Change.CHANGED, "d": Change.MISSING, "e": Change.ADDED,
    }  # fmt: skip
