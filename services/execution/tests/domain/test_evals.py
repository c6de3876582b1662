from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.factories import EVALUATED, WRITER

from execution.domain.definitions import parse_agent
from execution.domain.evals import MAX_EVALS, Eval, Verdict, evals_of, judge
from execution.domain.problems import DefinitionError
from execution.domain.runs import FINAL, RunStatus

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
"""Without NUL: no expression has a value for such a text, because the engine would end it there."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def refused(evals: str) -> list[tuple[str, str]]:
    with pytest.raises(DefinitionError) as error:
        parse_agent(WRITER + "evals:\n" + evals)
    return [(problem.path, problem.code) for problem in error.value.problems]


def test_evals_are_part_of_what_is_stored_and_hashed() -> None:
    definition = parse_agent(EVALUATED)
    assert definition.digest != parse_agent(WRITER).digest
    assert [case.name for case in evals_of(definition.config)] == ["says something", "says it of the topic"]
    assert evals_of(parse_agent(WRITER).config) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{name: a, input: {topic: x}}", ("evals[0].expect", "missing_key")),
        ("{name: a, input: {topic: x}, expect: ''}", ("evals[0].expect", "invalid_value")),
        ("{name: a, input: {topic: x}, expect: 'output.text >'}", ("evals[0].expect", "invalid_expression")),
        ("{name: a, input: {topic: x}, expect: 'steps.x.output'}", ("evals[0].expect", "invalid_expression")),
        ("{name: a, input: {topic: x}, expect: '1 + 1'}", ("evals[0].expect", "invalid_expression")),
        ("{name: a, input: {topic: 7}, expect: 'true'}", ("evals[0].input", "invalid_input")),
        ("{name: a, expect: 'true'}", ("evals[0].input", "invalid_input")),
        ("{name: a, input: {topic: x}, expect: 'true', wish: 1}", ("evals[0].wish", "unknown_key")),
    ],
)
def test_evals_are_checked_when_saved(line: str, problem: tuple[str, str]) -> None:
    assert refused(f"  - {line}\n") == [problem]


def test_evals_have_names_of_their_own_and_an_end() -> None:
    one = "  - {name: a, input: {topic: x}, expect: 'true'}\n"
    assert refused(one * 2) == [("evals[1].name", "duplicate_id")]
    many = "".join(one.replace("name: a", f"name: a{number}") for number in range(MAX_EVALS + 1))
    assert refused(many) == [("evals", "invalid_value")]


def test_evals_are_not_held_against_a_schema_that_is_none() -> None:
    with pytest.raises(DefinitionError) as error:
        parse_agent(EVALUATED.replace("type: string", "type: strin"))
    assert {problem.code for problem in error.value.problems} == {"invalid_schema"}


@given(JSON)
def test_eval_of_equality_is_true_of_the_same_output_and_no_other(output: object) -> None:
    case = Eval(name="same", input={"wanted": output}, expect="output == input.wanted")
    assert judge(case, RunStatus.COMPLETED, output, None).verdict is Verdict.TRUE
    assert judge(case, RunStatus.COMPLETED, {"other": [output]}, None).verdict is Verdict.FALSE


@pytest.mark.parametrize("output", ["\0", "a\0b", {"\0": None}, {"a": ["\0"]}])
def test_eval_of_a_text_with_a_nul_is_an_error_never_a_truth(output: object) -> None:
    case = Eval(name="same", input={"wanted": output}, expect="output == input.wanted")
    assert judge(case, RunStatus.COMPLETED, output, None) == (Verdict.ERROR, "no_value")


@given(JSON, st.sampled_from(["output.ok", "output", "output.size() > 1", "output.ok == true && input.x"]))
def test_eval_of_anything_has_a_verdict(output: object, expect: str) -> None:
    judged = judge(Eval(name="a", expect=expect), RunStatus.COMPLETED, output, None)
    assert (judged.verdict is Verdict.ERROR) == (judged.error_code in {"no_value", "not_a_condition"})
    assert (judged.error_code == "") == (judged.verdict in {Verdict.TRUE, Verdict.FALSE})


@given(st.sampled_from(sorted(FINAL - {RunStatus.COMPLETED})), st.none() | st.just("max_cost"))
def test_eval_without_an_answer_is_an_error(status: str, code: str | None) -> None:
    case = Eval(name="a", expect="true")
    assert judge(case, status, None, code) == (Verdict.ERROR, code or status)
