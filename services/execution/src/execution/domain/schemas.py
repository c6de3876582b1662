"""JSON Schemas (draft 2020-12) of inputs and outputs: checked when saved, applied when run.

The validator is Rust's `jsonschema`: patterns run in linear time, references never leave the document, and a schema
that refers to itself ends, so a schema written by a stranger cannot hold up a process.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jsonschema_rs
import orjson

from execution.domain.documents import Json, Path, dotted

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MAX_VALUE_PROBLEMS = 20
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)


class ValueProblem(NamedTuple):
    """Where a value breaks its schema, and how; never the value itself."""

    path: str
    message: str


class SchemaProblem(NamedTuple):
    """Where a schema is not a schema, and why."""

    path: Path
    message: str


def schema_problems(schema: Json) -> list[SchemaProblem]:
    """Everything that keeps this from being a usable draft 2020-12 schema."""
    if not isinstance(schema, dict):
        return [SchemaProblem((), "a schema is a mapping")]
    if schema.get("$schema", DRAFT) != DRAFT:
        return [SchemaProblem(("$schema",), f"only {DRAFT} is supported")]
    try:
        _validator(orjson.dumps(schema))
    except jsonschema_rs.ValidationError as error:
        return [SchemaProblem(tuple(error.instance_path), error.message)]
    except (ValueError, TypeError) as error:
        return [SchemaProblem((), f"not a usable schema: {type(error).__name__}")]
    return []


def validate_input(schema: Json, value: Json) -> list[ValueProblem]:
    """How the value breaks the schema; nothing when it fits or there is no schema."""
    if schema is None:
        return []
    validator = _validator(orjson.dumps(schema))
    if validator.is_valid(value):
        return []
    problems = []
    for error in validator.iter_errors(value):
        problems.append(ValueProblem(dotted(error.instance_path), error.message))
        if len(problems) == MAX_VALUE_PROBLEMS:
            break
    return problems


@lru_cache(maxsize=512)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        orjson.loads(schema), offline=True, mask="the value", pattern_options=_PATTERNS
    )
