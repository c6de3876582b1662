from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.expressions import ExpressionError
from execution.domain.templates import MAX_HOLES, TemplateError, compile_template

ROOTS = {"input": {"topic": "tea", "n": 3, "list": [1, 2], "none": None}, "steps": {}}


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("${input.list}", [1, 2]),
        ("${input.none}", None),
        ("${ input.n }", 3),
        ("${input.n + 1}", 4),
        ("n=${input.n} ${input.topic}, ${input.list} ${input.none}", "n=3 tea, [1,2] null"),
        ("$${input.n} costs $5 {x} $", "${input.n} costs $5 {x} $"),
        ("${{'k': '}'}}", {"k": "}"}),
        ("${input.topic}${input.topic}", "teatea"),
        ({"a": ["${input.n}", "x", {"b": "${input.topic}!"}], "c": 1}, {"a": [3, "x", {"b": "tea!"}], "c": 1}),
        ({"${input.n}": 1}, {"${input.n}": 1}),
        (7, 7),
        ("", ""),
    ],
)
def test_rendering(source: object, rendered: object) -> None:
    assert compile_template(source).render(ROOTS) == rendered


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"a": [0, "${input.x"]}, ("a", 1)),
        ("${}", ()),
        ("a ${unknown.x} b", ()),
        (["${input.x"], (0,)),
        ("${'unclosed}", ()),
        (["${input}"] * (MAX_HOLES + 1), ()),
    ],
)
def test_faults_are_placed(source: object, path: tuple[object, ...]) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(source)
    assert caught.value.path == path


def test_a_text_may_not_grow_without_end() -> None:
    template = compile_template("-".join(["${input.big}"] * 50))
    with pytest.raises(ExpressionError, match="grows beyond"):
        template.render({"input": {"big": "x" * 100_000}})


def test_paths_name_what_is_read() -> None:
    template = compile_template({"a": "${input.topic} ${steps.x.output}", "b": "${1 + 1}"})
    assert [(where, str(path)) for where, path in template.paths()] == [
        (("a",), "input.topic"),
        (("a",), "steps.x.output"),
    ]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_without_holes_a_template_is_its_source(source: object) -> None:
    if "${" not in json.dumps(source):
        assert compile_template(source).render({}) == source


@given(st.text("${}input.nx'\" ", max_size=40))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateError, ExpressionError):
        compile_template(text).render(ROOTS)
