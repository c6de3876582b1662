from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.domain.documents import MAX_DEPTH, MAX_TEXT_BYTES, parse_document
from execution.domain.problems import DefinitionError

scalars = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def problems_of(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(DefinitionError) as caught:
        parse_document(text)
    return [(problem.line, problem.column, problem.code) for problem in caught.value.problems]


@given(
    st.text() | st.text("{}[]:,-?&*!|>'\"% \n\t#a1.~", max_size=80) | st.binary().map(lambda raw: raw.decode("latin-1"))
)
@example("[" * 5000)
@example("{a: " * 5000)
@example("\ud800")
@example("9" * 6000)
@example("a: \0")
def test_any_text_is_either_json_or_refused(text: str) -> None:
    try:
        document = parse_document(text)
    except DefinitionError as error:
        places = [(problem.line, problem.column) for problem in error.problems]
    else:
        json.dumps(document.value, allow_nan=False).encode()
        return
    assert places
    assert min(min(place) for place in places) >= 1


@given(values)
def test_json_is_read_as_itself(value: object) -> None:
    assert parse_document(json.dumps(value, ensure_ascii=False)).value == value


def test_plain_words_are_what_yaml_1_2_says() -> None:
    text = "{a: yes, b: on, c: 1:30, d: 2026-11-22, e: True, f: ~, g: 1e3, h: 0o17, i: -0.5, 1: x, j: '7'}"
    assert parse_document(text).value == {
        "a": "yes", "b": "on", "c": "1:30", "d": "2026-11-22", "e": True, "f": None, "g": 1000.0, "h": "0o17",
        "i": -0.5, "1": "x", "j": "7",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x", [(1, 4, "invalid_yaml")]),
        ("a: !!python/object:os.system 1", [(1, 4, "invalid_yaml")]),
        ("a: 1\n---\nb: 2", [(2, 1, "invalid_yaml")]),
        ("a: 1\nb: 2\na: 3", [(3, 1, "duplicate_key")]),
        ("a: 1\n b: 2", [(2, 3, "invalid_yaml")]),
        ("? [a]\n: 1", [(1, 3, "invalid_yaml")]),
        ("a: .inf\nb: .nan", [(1, 4, "invalid_value"), (2, 4, "invalid_value")]),
        ("a: 9007199254740993", [(1, 4, "invalid_value")]),
        ("a: 1e999", [(1, 4, "invalid_value")]),
        ('a: "\\0"', [(1, 4, "invalid_value")]),
        ("", [(1, 1, "invalid_yaml")]),
        ("# nothing", [(1, 1, "invalid_yaml")]),
        ("a: " + "x" * MAX_TEXT_BYTES, [(1, 1, "too_large")]),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), [(1, MAX_DEPTH + 2, "too_deep")]),
        ("[" + "1," * 30_000 + "]", [(1, 40_000, "too_large")]),
    ],
)
def test_refusals_name_the_place(text: str, expected: list[tuple[int, int, str]]) -> None:
    assert problems_of(text) == expected


def test_a_problem_points_at_the_nearest_part_that_exists() -> None:
    document = parse_document("a:\n  b:\n    - c: 1\n")
    at_value = document.problem(("a", "b", 0, "missing"), "missing_key", "x")
    assert (at_value.line, at_value.column, at_value.path) == (3, 7, "a.b[0].missing")
    at_key = document.problem(("a", "b"), "unknown_key", "x", at_key=True)
    assert (at_key.line, at_key.column) == (2, 3)
