from __future__ import annotations

from typing import Any

import pytest

from execution.domain.compiler import compile_agent, compile_orchestration
from execution.domain.definitions import parse_agent, parse_orchestration
from execution.domain.graph import Graph
from execution.domain.interpreter import Finished, Plan, next_work, partial_output
from execution.domain.nodes import AgentNode, BranchNode, LoopNode, MapNode, Node, OnError
from execution.domain.runs import RunStatus, StepStatus, StopReason
from execution.domain.templates import compile_template
from execution.domain.walk import Outcome, StepKey

HEAD = "apiVersion: orchestration/v1\n"
SEQUENCE = """\
pattern: sequential
steps:
  - {id: draft, agent: writer, in: {topic: "${input.topic}"}}
  - {id: edit, agent: editor, in: {text: "${steps.draft.output.text}", title: "On ${input.topic}"}}
  - {id: publish, agent: publisher}
"""
INPUT = {"topic": "tea"}


def compiled(text: str) -> Graph:
    return compile_orchestration(parse_orchestration(HEAD + text))


def parallel(join: str, merge: str = "") -> Graph:
    return compiled(
        f"pattern: parallel\nbranches: [{{id: a, agent: x}}, {{id: b, agent: x}}, {{id: c, agent: x}}]\njoin: {{{join}}}\n{merge}"
    )


def graph_of(*nodes: Node, **options: Any) -> Graph:
    return Graph(start=nodes[0].id, nodes={node.id: node for node in nodes}, **options)


def done(**outputs: Any) -> dict[StepKey, Outcome]:
    return {StepKey(node): Outcome(StepStatus.COMPLETED, output) for node, output in outputs.items()}


def failed(*nodes: str, code: str = "timeout") -> dict[StepKey, Outcome]:
    return {StepKey(node): Outcome(StepStatus.FAILED, None, code) for node in nodes}


def skipped(*nodes: str) -> dict[StepKey, Outcome]:
    return {StepKey(node): Outcome(StepStatus.SKIPPED) for node in nodes}


def ready(plan: Plan) -> list[tuple[str, int, Any]]:
    assert plan.finished is None
    return [(step.node.id, step.iteration, step.input) for step in plan.ready]


def end(plan: Plan) -> Finished:
    assert plan.finished is not None
    assert plan.ready == ()
    return plan.finished


def test_one_agent() -> None:
    graph = compile_agent(parse_agent("apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}\n"))
    assert ready(next_work(graph, INPUT, {})) == [("agent", 0, INPUT)]
    assert end(next_work(graph, INPUT, done(agent={"text": "hi"}))) == Finished(RunStatus.COMPLETED, {"text": "hi"})
    assert end(next_work(graph, INPUT, failed("agent"))) == Finished(RunStatus.FAILED, {}, "timeout", "agent")


def test_steps_follow_each_other_and_see_what_came_before() -> None:
    graph = compiled(SEQUENCE)
    assert ready(next_work(graph, INPUT, {})) == [("draft", 0, {"topic": "tea"})]
    first = done(draft={"text": "A draft", "n": 1})
    assert ready(next_work(graph, INPUT, first)) == [("edit", 0, {"text": "A draft", "title": "On tea"})]
    second = first | done(edit={"text": "Better"})
    assert ready(next_work(graph, INPUT, second)) == [("publish", 0, {"text": "Better"})]
    assert end(next_work(graph, INPUT, second | done(publish="url"))) == Finished(RunStatus.COMPLETED, "url")


def test_a_failed_step_ends_a_sequence_and_keeps_what_was_made() -> None:
    plan = next_work(compiled(SEQUENCE), INPUT, done(draft={"text": "A"}) | failed("edit", code="refused"))
    assert end(plan) == Finished(RunStatus.FAILED, {"draft": {"text": "A"}}, "refused", "edit")


def test_a_template_without_a_value_fails_the_run_at_that_step() -> None:
    plan = next_work(compiled(SEQUENCE), INPUT, done(draft="no text"))
    assert end(plan)[2:4] == ("expression_failed", "edit")
    assert end(next_work(compiled(SEQUENCE), {}, {}))[2:4] == ("expression_failed", "draft")


def test_statuses_may_be_plain_text_as_a_database_gives_them() -> None:
    outcome: Any = Outcome("completed", {"text": "A"})  # type: ignore[arg-type]
    assert ready(next_work(compiled(SEQUENCE), INPUT, {StepKey("draft"): outcome}))[0][0] == "edit"


def test_all_branches_start_at_once_and_join_in_declared_order() -> None:
    graph = parallel("mode: all")
    assert ready(next_work(graph, INPUT, {})) == [("a", 0, INPUT), ("b", 0, INPUT), ("c", 0, INPUT)]
    assert [node for node, _, _ in ready(next_work(graph, INPUT, done(b=2)))] == ["a", "c"]
    finished = end(next_work(graph, INPUT, done(c=3, b=2, a=1)))
    assert list(finished.output.items()) == [("a", 1), ("b", 2), ("c", 3)]


def test_a_failed_branch_fails_the_run_at_once_and_stops_the_others() -> None:
    plan = next_work(parallel("mode: all"), INPUT, done(a=1) | failed("b"))
    assert end(plan) == Finished(RunStatus.FAILED, {"a": 1}, "timeout", "b")
    assert plan.skipped == (StepKey("c"),)


def test_failed_branches_may_be_skipped_but_not_all_of_them() -> None:
    graph = parallel("mode: all, on_branch_error: skip")
    assert [node for node, _, _ in ready(next_work(graph, INPUT, failed("a", "b")))] == ["c"]
    assert end(next_work(graph, INPUT, failed("a") | done(b=2, c=3))).output == {"b": 2, "c": 3}
    assert end(next_work(graph, INPUT, failed("a", "b", "c"))).error_code == "all_branches_failed"


def test_any_takes_the_first_and_a_late_answer_changes_nothing() -> None:
    graph = parallel("mode: any, on_branch_error: skip", "merge: {agent: m}")
    plan = next_work(graph, INPUT, failed("a") | done(b=2))
    assert ready(plan) == [("merge", 0, {"b": 2})]
    assert plan.skipped == (StepKey("c"),)
    stored = failed("a") | done(b=2) | skipped("c")
    again = next_work(graph, INPUT, stored)
    assert (ready(again), again.skipped) == (ready(plan), ())
    assert end(next_work(graph, INPUT, failed("a", "b", "c"))).error_code == "quorum_not_reached"


def test_a_quorum_takes_exactly_so_many_and_gives_up_when_out_of_reach() -> None:
    graph = parallel("mode: quorum, quorum: 2, on_branch_error: skip")
    assert [node for node, _, _ in ready(next_work(graph, INPUT, done(c=3)))] == ["a", "b"]
    plan = next_work(graph, INPUT, done(c=3, a=1))
    assert (end(plan).output, plan.skipped) == ({"a": 1, "c": 3}, (StepKey("b"),))
    assert end(next_work(graph, INPUT, done(a=1, b=2, c=3))).output == {"a": 1, "b": 2}
    plan = next_work(graph, INPUT, failed("a", "b"))
    assert (end(plan).error_code, plan.skipped) == ("quorum_not_reached", (StepKey("c"),))


def test_a_merge_sees_the_branches_even_those_that_do_not_count() -> None:
    graph = parallel(
        "mode: any, on_branch_error: skip",
        "merge: {agent: m, in: {a: '${steps.a.status}', b: '${steps.b.output}', c: '${steps.c.status}', t: '${input.topic}'}}",
    )
    plan = next_work(graph, INPUT, failed("a") | done(b=2))
    assert ready(plan) == [("merge", 0, {"a": "failed", "b": 2, "c": "skipped", "t": "tea"})]
    assert ready(next_work(graph, INPUT, failed("a") | done(b=2) | skipped("c"))) == ready(plan)


EACH = MapNode(id="each", over=compile_template("${input.items}"), body="do", concurrency=2, max_items=4)
DO = AgentNode(id="do", agent="x", input=compile_template({"it": "${item}"}))


def items(**outcomes: Outcome) -> dict[StepKey, Outcome]:
    return {StepKey("do", int(index[1:])): outcome for index, outcome in outcomes.items()}


def test_a_map_runs_a_window_of_items_and_keeps_their_order() -> None:
    graph, ok = graph_of(EACH, DO), Outcome(StepStatus.COMPLETED, "o")
    assert ready(next_work(graph, {"items": [7, 8, 9]}, {})) == [("do", 0, {"it": 7}), ("do", 1, {"it": 8})]
    assert ready(next_work(graph, {"items": [7, 8, 9]}, items(i1=ok))) == [("do", 0, {"it": 7}), ("do", 2, {"it": 9})]
    assert end(
        next_work(graph, {"items": [7, 8, 9]}, items(i2=ok, i0=ok, i1=Outcome(StepStatus.COMPLETED, 5)))
    ).output == ["o", 5, "o"]
    assert end(next_work(graph, {"items": []}, {})).output == []
    assert end(next_work(graph, {"items": [1] * 5}, {})).error_code == "too_many_items"
    assert end(next_work(graph, {"items": "text"}, {})).error_code == "invalid_items"


@pytest.mark.parametrize(
    ("item_error", "status"), [(OnError.FAIL, RunStatus.FAILED), (OnError.SKIP, RunStatus.COMPLETED)]
)
def test_a_failed_item(item_error: OnError, status: RunStatus) -> None:
    each = MapNode(id="each", over=compile_template("${input.items}"), body="do", item_error=item_error)
    outcomes = items(i0=Outcome(StepStatus.FAILED, None, "odd"), i1=Outcome(StepStatus.COMPLETED, 1))
    finished = end(next_work(graph_of(each, DO), {"items": [1, 2]}, outcomes))
    assert finished.status is status
    assert finished.output == ([1] if status is RunStatus.COMPLETED else {"do": 1})


def test_a_later_item_that_failed_first_stays_the_reason_once_the_earlier_one_is_given_up() -> None:
    graph, given = graph_of(EACH, DO), {"items": [7, 8, 9]}
    outcomes = items(i1=Outcome(StepStatus.FAILED, None, "odd"))
    plan = next_work(graph, given, outcomes)
    assert (end(plan).error_code, plan.skipped) == ("odd", (StepKey("do", 0),))
    again = next_work(graph, given, outcomes | {StepKey("do", 0): Outcome(StepStatus.SKIPPED)})
    assert (end(again), again.ready, again.skipped) == (end(plan), (), ())


def test_a_branch_follows_the_first_condition_that_is_exactly_true() -> None:
    choose = BranchNode(
        id="choose", cases=((compile_template("${input.a}"), "one"), (compile_template("${input.n > 1}"), "two"))
    )
    graph = graph_of(choose, AgentNode(id="one", agent="x"), AgentNode(id="two", agent="x"))
    assert ready(next_work(graph, {"a": True, "n": 5}, {}))[0][0] == "one"
    assert ready(next_work(graph, {"a": "yes", "n": 5}, {}))[0][0] == "two"
    assert end(next_work(graph, {"a": 1, "n": 1}, {})).error_code == "no_route"
    assert end(next_work(graph, {"n": 5}, {}))[2:4] == ("expression_failed", "choose")


@pytest.mark.parametrize("on_exhausted", list(OnError))
def test_a_loop_repeats_until_its_condition_and_no_longer(on_exhausted: OnError) -> None:
    loop = LoopNode(
        id="again",
        body="try",
        until=compile_template("${steps.try.output.ok}"),
        max_iterations=2,
        on_exhausted=on_exhausted,
    )
    graph = graph_of(loop, AgentNode(id="try", agent="x"))
    no, yes = Outcome(StepStatus.COMPLETED, {"ok": False}), Outcome(StepStatus.COMPLETED, {"ok": True})
    assert ready(next_work(graph, INPUT, {})) == [("try", 0, INPUT)]
    assert ready(next_work(graph, INPUT, {StepKey("try", 0): no})) == [("try", 1, {"ok": False})]
    assert end(next_work(graph, INPUT, {StepKey("try", 0): no, StepKey("try", 1): yes})).output == {"ok": True}
    finished = end(next_work(graph, INPUT, {StepKey("try", 0): no, StepKey("try", 1): no}))
    if on_exhausted is OnError.SKIP:
        assert finished == Finished(RunStatus.COMPLETED, {"ok": False})
    else:
        assert finished.error_code == "loop_exhausted"


def test_a_run_stops_before_the_step_that_would_pass_its_limit() -> None:
    steps = [AgentNode(id=f"s{n}", agent="x", next=f"s{n + 1}" if n < 2 else None) for n in range(3)]
    graph = graph_of(*steps, max_steps=2)
    assert ready(next_work(graph, INPUT, done(s0=1))) == [("s1", 0, 1)]
    plan = next_work(graph, INPUT, done(s0=1, s1=2))
    assert end(plan) == Finished(RunStatus.FAILED, {"s0": 1, "s1": 2}, "max_steps", None, StopReason.MAX_STEPS)
    assert plan.skipped == (StepKey("s2"),)


def test_skipped_steps_do_not_count_as_steps() -> None:
    fork = parallel("mode: any, on_branch_error: skip", "merge: {agent: m}")
    graph = Graph(start=fork.start, nodes=fork.nodes, max_steps=2)
    assert ready(next_work(graph, INPUT, done(a=1) | skipped("b", "c"))) == [("merge", 0, {"a": 1})]


def test_partial_output_keeps_the_last_time_round() -> None:
    completed = {
        StepKey("b", 2): Outcome(StepStatus.COMPLETED, 3),
        StepKey("b", 1): Outcome(StepStatus.COMPLETED, 2),
    } | done(a=1)
    assert list(partial_output(completed | failed("c")).items()) == [("a", 1), ("b", 3)]
