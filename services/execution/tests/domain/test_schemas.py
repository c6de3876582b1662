from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.schemas import schema_problems, validate_input

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_a_value_that_fits_has_no_problems() -> None:
    assert validate_input(PERSON, {"name": "Ada", "age": 36}) == []
    assert validate_input(None, object()) == []


def test_problems_name_the_place_and_never_the_value() -> None:
    problems = validate_input(PERSON, {"name": "a-very-secret-name", "age": "12 secrets"})
    assert {problem.path for problem in problems} == {"name", "age"}
    assert "secret" not in str(problems)
    assert [problem.path for problem in validate_input(PERSON, {})] == [""]


def test_problems_are_bounded() -> None:
    assert len(validate_input({"items": {"type": "string"}}, [1] * 500)) == 20


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "objct"}, ("type",)),
        ({"properties": {"a": {"minLength": -1}}}, ("properties", "a", "minLength")),
        ({"$ref": "https://example.com/schema"}, ()),
        ({"$ref": "file:///etc/passwd"}, ()),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, ("$schema",)),
        ({"pattern": "("}, ("pattern",)),
        ({"pattern": "a{1000}{1000}{1000}"}, ("pattern",)),
        ("object", ()),
    ],
)
def test_what_is_no_usable_schema(schema: object, path: tuple[str, ...]) -> None:
    assert [problem.path for problem in schema_problems(schema)] == [path]


def test_a_hostile_pattern_and_a_schema_of_itself_end() -> None:
    assert validate_input({"pattern": "^(a+)+$"}, "a" * 50_000 + "b")
    assert validate_input({"$ref": "#"}, 1) == []
    assert validate_input({"properties": {"a": {"$ref": "#"}}, "type": "object"}, {"a": {"a": 1}})


@given(
    st.dictionaries(
        st.sampled_from(["type", "$ref", "items", "not", "allOf", "pattern", "$id"]), st.text() | st.integers()
    )
)
def test_any_mapping_is_a_schema_or_refused(schema: dict[str, object]) -> None:
    if not schema_problems(schema):
        validate_input(schema, {"a": 1})
