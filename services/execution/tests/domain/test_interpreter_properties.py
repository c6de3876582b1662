"""Any graph, any order, any crash, any duplicate: the same end, within bounds."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from services.execution.tests.domain.drawn_graphs import INPUTS, MAX_STEPS, Races, graphs, outcome_of

from execution.domain.graph import Graph
from execution.domain.interpreter import Finished, next_work
from execution.domain.runs import RunStatus, StepStatus
from execution.domain.walk import Outcome, StepKey

FAILING = st.frozensets(st.integers(0, 6), max_size=3)


def run(
    graph: Graph, input: Any, failing: frozenset[int], order: random.Random
) -> tuple[Finished, dict[StepKey, Outcome]]:
    """Follow a run to its end, some ready steps at a time, crashing and repeating on the way."""
    completed: dict[StepKey, Outcome] = {}
    offered: set[StepKey] = set()
    for _ in range(MAX_STEPS + 1):
        plan = next_work(graph, input, completed)
        remembered = list(completed.items())
        order.shuffle(remembered)
        after_crash = next_work(Graph.from_json(orjson.loads(orjson.dumps(graph.to_json()))), input, dict(remembered))
        assert after_crash == plan
        for key in plan.skipped:
            assert key not in completed
            completed[key] = Outcome(StepStatus.SKIPPED)
        if plan.finished is not None:
            # Policy counts on it: a run that completes leaves no question open, for it has answered or skipped each.
            assert plan.finished.status is not RunStatus.COMPLETED or offered <= completed.keys()
            return plan.finished, completed
        offered |= {StepKey(step.node.id, step.iteration) for step in plan.ready}
        assert next_work(graph, input, completed)[:2] == plan[:2]
        assert plan.ready
        assert len({(step.node.id, step.iteration) for step in plan.ready}) == len(plan.ready)
        chosen = order.sample(plan.ready, order.randint(1, len(plan.ready)))
        for step in chosen:
            key = StepKey(step.node.id, step.iteration)
            assert key not in completed
            completed[key] = outcome_of(step, failing)
    raise AssertionError("a run takes more rounds than its limit of steps")


@settings(max_examples=200, deadline=None)
@given(graphs(Races.NEVER), INPUTS, FAILING, st.integers(), st.integers())
def test_where_nothing_races_any_order_gives_the_same_end(
    graph: Graph, input: Any, failing: frozenset[int], one: int, other: int
) -> None:
    first, _ = run(graph, input, failing, random.Random(one))
    second, _ = run(graph, input, failing, random.Random(other))
    assert first == second


@settings(max_examples=200, deadline=None)
@given(graphs(Races.WHERE_STEPS_FAIL), INPUTS, st.integers(), st.integers())
def test_where_nothing_fails_what_a_failure_would_decide_is_the_same_in_any_order(
    graph: Graph, input: Any, one: int, other: int
) -> None:
    first, done = run(graph, input, frozenset(), random.Random(one))
    second, also_done = run(graph, input, frozenset(), random.Random(other))
    assert first.status is RunStatus.COMPLETED
    assert (first, done) == (second, also_done)


@settings(max_examples=200, deadline=None)
@given(graphs(Races.ALWAYS), INPUTS, FAILING, st.integers())
def test_a_race_is_decided_once_whatever_crashes_or_comes_late(
    graph: Graph, input: Any, failing: frozenset[int], seed: int
) -> None:
    finished, completed = run(graph, input, failing, random.Random(seed))
    again = next_work(graph, input, completed)
    assert again.ready == ()
    assert again.skipped == ()
    assert again.finished == finished


@settings(max_examples=120, deadline=None)
@given(graphs(Races.ALWAYS), INPUTS, st.integers())
def test_without_failing_steps_every_run_completes(graph: Graph, input: Any, seed: int) -> None:
    finished, _ = run(graph, input, frozenset(), random.Random(seed))
    assert finished.status is RunStatus.COMPLETED


@settings(max_examples=200, deadline=None)
@given(graphs(Races.ALWAYS), INPUTS, FAILING, st.integers(1, 12), st.integers())
def test_no_run_takes_more_steps_than_its_limit(
    graph: Graph, input: Any, failing: frozenset[int], limit: int, seed: int
) -> None:
    small = replace(graph, max_steps=limit)
    finished, completed = run(small, input, failing, random.Random(seed))
    undoing = {node for _, node in graph.compensations}
    done = [key for key, outcome in completed.items() if outcome.status != StepStatus.SKIPPED]
    assert sum(1 for key in done if key.node not in undoing) <= limit
    assert failing or finished.status is RunStatus.COMPLETED or finished.error_code == "max_steps"
    # A run over a cap is not undone, and one that undoes has its end: nothing of that counts against the limit.
    assert finished.error_code != "max_steps" or not any(key.node in undoing for key in done)


@settings(max_examples=200, deadline=None)
@given(graphs(Races.ALWAYS), INPUTS, FAILING, st.integers())
def test_a_run_that_fails_undoes_what_had_completed_the_last_first_and_nothing_else(
    graph: Graph, input: Any, failing: frozenset[int], seed: int
) -> None:
    finished, completed = run(graph, input, failing, random.Random(seed))
    undoing = {node for _, node in graph.compensations}
    undone = [key.node for key in completed if key.node in undoing]
    done = {key.node for key, outcome in completed.items() if outcome.status == StepStatus.COMPLETED}
    expected = [node for step, node in reversed(graph.compensations) if step in done]
    assert undone == (expected if finished.status is RunStatus.FAILED else [])
    last = [key.node for key in completed][-len(undone) :] if undone else []
    assert last == undone


@settings(max_examples=120, deadline=None)
@given(graphs(Races.NEVER), INPUTS, FAILING, st.integers())
def test_undoing_changes_nothing_of_how_a_run_ends(
    graph: Graph, input: Any, failing: frozenset[int], seed: int
) -> None:
    undoing = {node for _, node in graph.compensations}
    nodes = {name: node for name, node in graph.nodes.items() if name not in undoing}
    with_undoing, _ = run(graph, input, failing, random.Random(seed))
    without, _ = run(replace(graph, nodes=nodes, compensations=()), input, failing, random.Random(seed))
    assert with_undoing._replace(output=None) == without._replace(output=None)
