"""Routers, maps and loops: what is accepted, what it compiles to, and how it runs to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.domain.test_definitions import refused

from execution.domain.compiler import compile_orchestration
from execution.domain.definitions import parse_orchestration
from execution.domain.graph import Graph
from execution.domain.interpreter import Finished, next_work
from execution.domain.nodes import AgentNode
from execution.domain.runs import StepStatus
from execution.domain.walk import Outcome, StepKey

Does = Callable[[str, Any, int], Any]
"""What an agent answers: to its alias, its input and the time round; an exception class fails it."""

BY_RULE = """\
apiVersion: orchestration/v1
pattern: router
classifier: {expr: 'input.amount > 100 ? "large" : input.kind'}
routes: {large: {agent: boss}, tech: {agent: desk, in: {text: "${input.text}"}}}
otherwise: {agent: clerk}
"""
BY_AGENT = """\
apiVersion: orchestration/v1
pattern: router
classifier: {agent: triage}
routes: {billing: {agent: clerk}, tech: {agent: desk, in: {said: "${steps.classify.output.route}"}}}
"""
MAP = """\
apiVersion: orchestration/v1
pattern: map_reduce
input_schema: {type: object, properties: {documents: {type: array}}}
over: "${input.documents}"
as: doc
map: {agent: reader, in: {text: "${doc.text}"}}
concurrency: 2
max_items: 5
reduce: {agent: merger, in: {all: "${previous}"}}
"""
LOOP = """\
apiVersion: orchestration/v1
pattern: loop_until
body: {agent: coder, in: {draft: "${previous.text}", wish: "${input.wish}"}}
judge: {expr: steps.body.output.score >= 3}
max_iterations: 4
"""


def graph_of(text: str) -> Graph:
    """The graph as a worker reads it: compiled, stored, loaded."""
    graph = compile_orchestration(parse_orchestration(text))
    return Graph.from_json(orjson.loads(orjson.dumps(graph.to_json())))


def run(graph: Graph, value: Any, does: Does) -> tuple[Finished, list[tuple[str, Any]]]:
    """Follow a graph to its end; how it ended, and each call in turn."""
    completed: dict[StepKey, Outcome] = {}
    calls: list[tuple[str, Any]] = []
    for _ in range(1_000):
        plan = next_work(graph, value, completed)
        completed |= {key: Outcome(StepStatus.SKIPPED) for key in plan.skipped}
        if plan.finished is not None:
            return plan.finished, calls
        step = plan.ready[0]
        assert isinstance(step.node, AgentNode)
        calls.append((step.node.agent, step.input))
        output = does(step.node.agent, step.input, step.iteration)
        failed = output is ValueError
        outcome = Outcome(StepStatus.FAILED, None, "broken") if failed else Outcome(StepStatus.COMPLETED, output)
        completed[StepKey(step.node.id, step.iteration)] = outcome
    raise AssertionError("it never ended")


def said(agent: str, value: Any, _iteration: int) -> Any:
    return {"by": agent, "of": value}


@pytest.mark.parametrize(
    ("value", "agent", "given_to_it"),
    [
        ({"amount": 101, "kind": "tech", "text": "t"}, "boss", {"amount": 101, "kind": "tech", "text": "t"}),
        ({"amount": 1, "kind": "tech", "text": "t"}, "desk", {"text": "t"}),
        ({"amount": 1, "kind": "rest", "text": "t"}, "clerk", {"amount": 1, "kind": "rest", "text": "t"}),
    ],
)
def test_a_rule_chooses_one_route(value: Any, agent: str, given_to_it: Any) -> None:
    end, calls = run(graph_of(BY_RULE), value, said)
    assert calls == [(agent, given_to_it)]
    assert (end.status, end.output) == ("completed", {"by": agent, "of": given_to_it})


def test_an_agent_chooses_and_the_route_gets_the_input_not_its_word() -> None:
    def does(agent: str, value: Any, iteration: int) -> Any:
        return {"route": value["to"]} if agent == "triage" else said(agent, value, iteration)

    end, calls = run(graph_of(BY_AGENT), {"to": "billing"}, does)
    assert calls == [("triage", {"to": "billing"}), ("clerk", {"to": "billing"})]
    assert end.status == "completed"
    assert run(graph_of(BY_AGENT), {"to": "tech"}, does)[1][1] == ("desk", {"said": "tech"})
    nowhere, _ = run(graph_of(BY_AGENT), {"to": "mars"}, does)
    assert (nowhere.status, nowhere.error_code) == ("failed", "no_route")
    silent, _ = run(graph_of(BY_AGENT), {"to": "x"}, lambda *_: {"answer": "none"})
    assert silent.error_code == "no_route"


def test_a_map_runs_its_agent_for_each_item_and_reduces_all_outputs() -> None:
    def does(agent: str, value: Any, _iteration: int) -> Any:
        return value["text"].upper() if agent == "reader" else value["all"]

    end, calls = run(graph_of(MAP), {"documents": [{"text": "a"}, {"text": "b"}, {"text": "c"}]}, does)
    assert [agent for agent, _ in calls] == ["reader", "reader", "reader", "merger"]
    assert end.output == ["A", "B", "C"]
    assert run(graph_of(MAP), {"documents": []}, does)[0].output == []
    many, _ = run(graph_of(MAP), {"documents": [{"text": "a"}] * 6}, does)
    assert many.error_code == "too_many_items"
    assert run(graph_of(MAP), {"documents": "no list"}, does)[0].error_code == "invalid_items"


def test_an_item_that_fails_is_left_out_or_fails_the_run() -> None:
    def does(agent: str, value: Any, iteration: int) -> Any:
        return ValueError if agent == "reader" and iteration == 1 else value

    value = {"documents": [{"text": "a"}, {"text": "b"}, {"text": "c"}]}
    assert run(graph_of(MAP), value, does)[0].error_code == "broken"
    end, _ = run(graph_of(MAP + "item_error: skip\n"), value, does)
    assert end.output == {"all": [{"text": "a"}, {"text": "c"}]}


@given(st.integers(0, 40), st.integers(2, 7), st.integers())
def test_outputs_are_reduced_so_many_at_a_time_in_order(count: int, fan_in: int, seed: int) -> None:
    graph = graph_of(
        MAP.replace("max_items: 5", "max_items: 40").replace(
            '"${previous}"}}', f'"${{previous}}"}}, fan_in: {fan_in}}}'
        )
    )
    completed: dict[StepKey, Outcome] = {}
    order, most = random.Random(seed), 0
    while (
        plan := next_work(graph, {"documents": [{"text": str(n)} for n in range(count)]}, completed)
    ).finished is None:
        most = max(most, len(plan.ready))
        step = order.choice(plan.ready)
        given_to_it = step.input["all"] if step.node.id == "reduce" else [step.input["text"]]
        assert len(given_to_it) <= fan_in
        output = "".join(given_to_it)
        completed[StepKey(step.node.id, step.iteration)] = Outcome(StepStatus.COMPLETED, output)
    assert plan.finished.output == "".join(map(str, range(count)))
    assert most <= 2
    reductions = sorted(key.iteration for key in completed if key.node == "reduce")
    assert reductions == list(range(len(reductions)))


@given(st.integers(0, 6))
def test_a_loop_goes_on_with_its_own_output_until_its_judge_is_content(start: int) -> None:
    def does(_agent: str, value: Any, _iteration: int) -> Any:
        return {"text": value["draft"] + "+", "score": start + len(value["draft"])}

    end, calls = run(graph_of(LOOP), {"text": "", "wish": "w"}, does)
    needed = max(1, 4 - start)
    assert [value for _, value in calls] == [{"draft": "+" * number, "wish": "w"} for number in range(needed)]
    assert (end.status, end.output["text"]) == ("completed", "+" * needed)


def test_an_agent_may_judge_and_the_loop_gives_what_was_judged() -> None:
    def does(agent: str, value: Any, iteration: int) -> Any:
        return {"done": iteration == 2} if agent == "critic" else {"text": value["draft"] + "+"}

    text = LOOP.replace("{expr: steps.body.output.score >= 3}", "{agent: critic}")
    end, calls = run(graph_of(text), {"text": "", "wish": "w"}, does)
    assert [agent for agent, _ in calls] == ["coder", "critic"] * 3
    assert calls[3] == ("critic", {"text": "++"})
    assert calls[4] == ("coder", {"draft": "++", "wish": "w"})
    assert (end.status, end.output) == ("completed", {"text": "+++"})
    mute, calls = run(graph_of(text), {"text": "", "wish": "w"}, lambda *_: {"text": "t"})
    assert (len(calls), mute.error_code) == (8, "loop_exhausted")


def test_a_loop_that_never_ends_is_ended() -> None:
    def does(_agent: str, _value: Any, iteration: int) -> Any:
        return {"text": str(iteration), "score": 0}

    value = {"text": "", "wish": "w"}
    end, calls = run(graph_of(LOOP), value, does)
    assert (len(calls), end.status, end.error_code) == (4, "failed", "loop_exhausted")
    end, calls = run(graph_of(LOOP + "on_exhausted: return_best\n"), value, does)
    assert (len(calls), end.status, end.output) == (4, "completed", {"text": "3", "score": 0})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BY_RULE.replace("input.kind'", "'"), [(3, "classifier.expr", "invalid_expression")]),
        (BY_RULE.replace("{expr: ", "{agent: a, expr: "), [(3, "classifier", "invalid_value")]),
        (BY_RULE.replace("{expr: ", "{timeout: 1s, expr: "), [(3, "classifier", "invalid_value")]),
        (BY_RULE.replace("large: {agent", "otherwise: {agent"), [(4, "routes.otherwise", "duplicate_id")]),
        (
            BY_RULE.replace("${input.text}", "${steps.classify.output}"),
            [(4, "routes.tech.in.text", "invalid_expression")],
        ),
        (BY_RULE + "limits: {max_steps: 0}\n", [(6, "limits.max_steps", "invalid_value")]),
        (BY_AGENT + "limits: {max_steps: 1}\n", [(5, "limits.max_steps", "invalid_value")]),
        (MAP.replace("${input.documents}", "all of them"), [(4, "over", "invalid_value")]),
        (MAP.replace("${input.documents}", "${input.papers}"), [(4, "over", "unknown_reference")]),
        (MAP.replace("as: doc", "as: steps"), [(5, "as", "invalid_value"), (6, "map.in.text", "invalid_expression")]),
        (MAP.replace("doc.text", "item.text"), [(6, "map.in.text", "invalid_expression")]),
        (MAP.replace("max_items: 5", "max_items: 1001"), [(8, "max_items", "invalid_value")]),
        (MAP.replace("{agent: merger, ", "{agent: merger, fan_in: 1, "), [(9, "reduce.fan_in", "invalid_value")]),
        (LOOP.replace("max_iterations: 4\n", ""), [(1, "max_iterations", "missing_key")]),
        (LOOP.replace("max_iterations: 4", "max_iterations: 101"), [(5, "max_iterations", "invalid_value")]),
        (LOOP.replace("steps.body.output.score >= 3", "size(steps)"), [(4, "judge.expr", "invalid_expression")]),
        (LOOP.replace("steps.body.output.score >= 3", "steps.other.output"), [(4, "judge.expr", "unknown_reference")]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, expected: list[tuple[int, str, str]]) -> None:
    assert refused(text) == expected


def test_every_alias_is_checked() -> None:
    known = ["boss", "desk"]
    assert refused(BY_RULE, aliases=known) == [(5, "otherwise.agent", "unknown_reference")]
    assert refused(MAP, aliases=["reader"]) == [(9, "reduce.agent", "unknown_reference")]
    assert refused(LOOP, aliases=[]) == [(3, "body.agent", "unknown_reference")]


def test_a_group_that_failed_speaks_for_the_map_also_when_one_before_it_was_given_up() -> None:
    text = MAP.replace("reduce: {agent: merger,", "reduce: {agent: merger, fan_in: 2,")
    graph, value = graph_of(text), {"documents": [{"text": "x"}] * 4}
    completed = {StepKey("map", number): Outcome(StepStatus.COMPLETED, number) for number in range(4)}
    assert [step.iteration for step in next_work(graph, value, completed).ready] == [0, 1]
    completed[StepKey("reduce", 1)] = Outcome(StepStatus.FAILED, None, "broken")
    plan = next_work(graph, value, completed)
    assert plan.skipped == (StepKey("reduce", 0),)
    completed[StepKey("reduce", 0)] = Outcome(StepStatus.SKIPPED)
    assert plan.finished is not None
    assert plan.finished.error_code == "broken"
    assert next_work(graph, value, completed) == (plan.ready, plan.finished, ())
