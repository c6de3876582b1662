from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.expressions import CelExpression, ExpressionError, PathExpression, compile_expression

ROOTS = {"input": {"a": [{"b c": 7}], "name": "Ada", "n": 2}, "steps": {"s": {"output": None}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.name", "Ada"),
        (' input . a [0] ["b c"] ', 7),
        ("input.a[0]['b c']", 7),
        ("steps.s.output", None),
        ("input", ROOTS["input"]),
    ],
)
def test_paths_do_not_need_cel(text: str, value: object) -> None:
    expression = compile_expression(text)
    assert isinstance(expression, PathExpression)
    assert expression.value(ROOTS) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.n * 2 + 1", 5),
        ("input.name == 'Ada' && size(input.a) == 1", True),
        ("input.a.filter(x, x['b c'] > 6)", [{"b c": 7}]),
        ("{'n': input.n}", {"n": 2}),
        ("true", True),
        ("has(input.nope) ? 1 : 0", 0),
    ],
)
def test_everything_else_is_cel(text: str, value: object) -> None:
    expression = compile_expression(text)
    assert isinstance(expression, CelExpression)
    assert expression.value(ROOTS) == value


@pytest.mark.parametrize(
    "text", ["input.nope", "input.name.first", "input.name[0]", "input.a[1]", "input.a.b", "steps.s.output.text"]
)
def test_a_path_to_nothing_is_an_error_that_shows_no_input(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text).value(ROOTS)
    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["input.nope + 1", "1 / 0", "input.name + 1", "timestamp('2026-01-01T00:00:00Z')", "b'x'"]
)
def test_cel_without_a_json_value_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text).value(ROOTS)


@pytest.mark.parametrize(
    "text", ["", "  ", "secrets.key", "input.", "input +", "import('os')", "a" * 501, "input" + "[0]" * 40]
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text)


@pytest.mark.parametrize(
    "text", ["input.l.map(x, input.l)", "input.l.map //\n (x, x)", "[1].map (x, x)", "[1].transformList(i, v, v)"]
)
def test_nothing_multiplies_its_input(text: str) -> None:
    with pytest.raises(ExpressionError, match="map"):
        compile_expression(text)


@given(st.text(max_size=60) | st.text("input.steps[]()'\" 0+", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        compile_expression(text).value(ROOTS)
