"""Evals: what an agent is asked, and what has to hold of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from execution.domain.documents import Json, Path
from execution.domain.expressions import (
    MAX_EXPRESSION_CHARACTERS,
    CelExpression,
    ExpressionError,
    compile_expression,
)
from execution.domain.runs import RunStatus
from execution.domain.schemas import schema_problems, validate_input
from execution.domain.shapes import Name, Shape

MAX_EVALS = 50
EVAL_ROOTS = ("input", "output")


class Eval(Shape):
    """One case: an input, and a CEL expression over `input` and `output` that is true of a good answer."""

    name: Name
    input: dict[str, Any] = {}
    expect: Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION_CHARACTERS)]


Evals = Annotated[list[Eval], Field(max_length=MAX_EVALS)]


class Verdict(StrEnum):
    """What became of one case."""

    TRUE = "true"
    FALSE = "false"
    ERROR = "error"
    """There was no answer, or the expression has no truth for it."""


class Judged(NamedTuple):
    """A verdict, and for an error its code."""

    verdict: Verdict
    error_code: str = ""


def evals_of(config: Mapping[str, Json]) -> list[Eval]:
    """The cases of a stored configuration."""
    return [Eval.model_validate(each) for each in config.get("evals") or []]


def eval_problems(evals: list[Eval], input_schema: Json) -> Iterator[tuple[Path, str, str]]:
    """What is wrong with cases beyond their shape: names twice, expressions that are none, inputs that do not fit."""
    schema = None if input_schema is None or schema_problems(input_schema) else input_schema
    taken: set[str] = set()
    for index, case in enumerate(evals):
        at = ("evals", index)
        if case.name in taken:
            yield (*at, "name"), "duplicate_id", f"the name {case.name!r} is already taken"
        taken.add(case.name)
        if fault := _fault(case.expect):
            yield (*at, "expect"), "invalid_expression", fault
        for problem in validate_input(schema, case.input)[:1]:
            yield (*at, "input"), "invalid_input", f"{problem.path}: {problem.message}".removeprefix(": ")


def judge(case: Eval, status: str, output: Json, error_code: str | None) -> Judged:
    """What a run that is over says of its case."""
    if status != RunStatus.COMPLETED:
        return Judged(Verdict.ERROR, error_code or status)
    try:
        value = compile_expression(case.expect, EVAL_ROOTS).value({"input": case.input, "output": output})
    except ExpressionError:
        return Judged(Verdict.ERROR, "no_value")
    if value is True:
        return Judged(Verdict.TRUE)
    return Judged(Verdict.FALSE) if value is False else Judged(Verdict.ERROR, "not_a_condition")


def _fault(expect: str) -> str:
    try:
        expression = compile_expression(expect, EVAL_ROOTS)
    except ExpressionError as error:
        return str(error)
    is_never = isinstance(expression, CelExpression) and not expression.expression.is_condition
    return "this is never true or false" if is_never else ""
