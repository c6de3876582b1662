from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.cel import MAX_TEXT, Expression, ExpressionError, plain

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def value_of(text: str, **values: Any) -> Any:
    return Expression.compile(text, roots=values).evaluate(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input.topic", "bees"),
        ("input.tags[1]", "b"),
        ("{'topic': input.topic, 'first': input.tags[0]}", {"topic": "bees", "first": "a"}),
        ("input.tags.filter(t, t != 'a')", ["b"]),
        ("has(input.missing)", False),
        ("size(input.tags) + 1", 3),
        ("input", {"topic": "bees", "tags": ["a", "b"]}),
    ],
)
def test_values_come_back_as_plain_python(text: str, expected: object) -> None:
    assert value_of(text, input={"topic": "bees", "tags": ["a", "b"]}) == expected


@given(json_values)
def test_any_json_value_passes_through_unchanged(value: Any) -> None:
    assert value_of("input.it", input={"it": value}) == value


@pytest.mark.parametrize(
    "text", ["input.missing", "1 / input.zero", "input.zero + 1.5", "input.zero > 'a'", "int('x')"]
)
def test_an_error_is_raised_and_never_a_value(text: str) -> None:
    with pytest.raises(ExpressionError):
        value_of(text, input={"zero": 0})


def test_a_text_that_looks_like_an_error_is_a_value() -> None:
    assert value_of("input", input="NOT_FOUND: Key not found") == "NOT_FOUND: Key not found"


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("nobody.id == 1", 1, 7), ("input.a ==", 1, 11), ("input.a &&\n  input.b c", 2, 11), ("'a' + 1", 1, 5)],
)
def test_what_does_not_compile_is_located(text: str, line: int, column: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.compile(text, roots=("input",))
    assert (caught.value.line, caught.value.column) == (line, column)
    assert "<input>" not in caught.value.message


def test_a_declared_time_takes_part_in_arithmetic() -> None:
    expression = Expression.compile(
        "now - duration('1h') < now && now.getFullYear() == 2026", roots=(), timestamps=("now",)
    )
    assert expression.evaluate({"now": datetime(2026, 11, 22, tzinfo=UTC)}) is True


@pytest.mark.parametrize(
    ("values", "truth"),
    [({"a": True}, True), ({"a": False}, False), ({"a": "true"}, None), ({"a": 1}, None), ({}, None)],
)
def test_only_a_truth_is_a_truth(values: dict[str, object], *, truth: bool | None) -> None:
    expression = Expression.compile("p.a", roots=("p",))
    found = expression.truth(expression.bind({"p": values}))
    assert found is truth if truth is not None else isinstance(found, str)


def test_one_binding_serves_every_expression_over_the_same_names() -> None:
    first = Expression.compile("p.a > 1", roots=("p",))
    bound = first.bind({"p": {"a": 2}})
    assert [first.truth(bound), Expression.compile("p.a > 2", roots=("p",)).truth(bound)] == [True, False]


def test_a_runaway_comprehension_is_stopped() -> None:
    expression = Expression.compile("p.all(a, p.all(b, p.all(c, p.all(d, true))))", roots=("p",))
    assert "budget" in str(expression.truth(expression.bind({"p": list(range(1_000))})))


def test_oversized_and_overly_nested_texts_are_refused() -> None:
    for text in ("1" * (MAX_TEXT + 1), "(" * 100 + "1" + ")" * 100):
        with pytest.raises(ExpressionError):
            Expression.compile(text, roots=())


def test_a_value_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(5_000):
        inner["next"] = inner = {}
    with pytest.raises(ExpressionError):
        value_of("input.a", input=deep)


class Colour(StrEnum):
    RED = "red"


class Level(Enum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UUID(int=1), str(UUID(int=1))),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ((1, (2,)), [1, [2]]),
        (frozenset(("a",)), ["a"]),
        (Decimal("1.5"), "1.5"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (timedelta(seconds=90), "90.000000s"),
        ({"a": {UUID(int=2): None}}, {"a": {str(UUID(int=2)): None}}),
    ],
)
def test_foreign_types_become_known_ones(value: object, expected: object) -> None:
    assert plain({"it": value})["it"] == expected
    assert value_of("input.it", input={"it": value}) == expected


@pytest.mark.parametrize("value", ["draft\0", {"dr\0aft": 1}, ["draft\0x"], {UUID(int=3): {"a": "\0"}}])
def test_text_with_a_nul_is_refused_because_the_engine_would_end_it_there(value: object) -> None:
    with pytest.raises(ExpressionError, match="NUL"):
        value_of("input.a == 'draft'", input={"a": value})


def test_text_that_is_not_unicode_is_an_error() -> None:
    with pytest.raises(ExpressionError):
        value_of("input.a == 'draft'", input={"a": "\ud800"})


def test_times_inside_values_can_be_read_back() -> None:
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert value_of("timestamp(input.at).getHours()", input={"at": moment}) == 3
