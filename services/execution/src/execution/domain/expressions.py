"""Expressions inside definitions: CEL, with a fast path for what nearly all of them are, a dotted path."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import orjson

from execution.domain.documents import Json, PathKey
from pdp import cel

MAX_EXPRESSION_CHARACTERS = 500
MAX_PATH_KEYS = 32
ROOTS = ("input", "steps", "item", "previous", "history", "chosen")

_KEY = r"""\.\s*[A-Za-z_][A-Za-z0-9_]*|\[\s*[0-9]{1,9}\s*\]|\[\s*"[^"\\]*"\s*\]|\[\s*'[^'\\]*'\s*\]"""
_PATH = re.compile(rf"\s*([A-Za-z_][A-Za-z0-9_]*)((?:\s*(?:{_KEY}))*)\s*")
_KEYS = re.compile(_KEY)
_MULTIPLIES = re.compile(r"\b(map|transformList|transformMap)\s*(//[^\n]*\s*)*\(")
_WORDS_OF_CEL = frozenset({"true", "false", "null", "in"})


class ExpressionError(ValueError):
    """An expression cannot be read, or has no value for this input; the message never shows the input."""


class Expression(Protocol):
    """Something that has a value once its roots are known."""

    def value(self, roots: Mapping[str, Json]) -> Json:
        """The value for these roots."""


@dataclass(frozen=True, slots=True)
class PathExpression:
    """`steps.draft.output.text` or `input.items[0]["a b"]`: follows keys, without CEL."""

    root: str
    keys: tuple[PathKey, ...]

    def value(self, roots: Mapping[str, Json]) -> Json:
        """What stands at the end of the path."""
        try:
            found = roots[self.root]
            for key in self.keys:
                if found.__class__ is str:
                    raise TypeError
                found = found[key]
        except (KeyError, IndexError, TypeError):
            raise ExpressionError(f"nothing at {self}") from None
        return found

    def __str__(self) -> str:
        return self.root + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)


@dataclass(frozen=True, slots=True)
class CelExpression:
    """Any other expression, evaluated by the policy engine's CEL."""

    expression: cel.Expression

    def value(self, roots: Mapping[str, Json]) -> Json:
        """What CEL makes of it, as JSON."""
        try:
            found = self.expression.evaluate(roots)
            return orjson.loads(orjson.dumps(found, option=orjson.OPT_PASSTHROUGH_DATETIME))
        except (cel.ExpressionError, orjson.JSONEncodeError):
            raise ExpressionError("a CEL expression has no JSON value for this input") from None


@lru_cache(maxsize=4096)
def compile_expression(text: str, roots: Collection[str] = ROOTS) -> Expression:
    """Read one expression that may use these roots, or raise ExpressionError saying why it cannot be used."""
    if not text.strip():
        raise ExpressionError("an expression is empty")
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise ExpressionError(f"an expression has at most {MAX_EXPRESSION_CHARACTERS} characters")
    match = _PATH.fullmatch(text)
    if match is None or match[1] in _WORDS_OF_CEL:
        return _compile_cel(text, roots)
    if match[1] not in roots:
        raise ExpressionError(f"{match[1]!r} is not known here; known: {', '.join(roots)}")
    keys = tuple(_key(found) for found in _KEYS.findall(match[2]))
    if len(keys) > MAX_PATH_KEYS:
        raise ExpressionError(f"a path has at most {MAX_PATH_KEYS} keys")
    return PathExpression(match[1], keys)


def _key(text: str) -> PathKey:
    if text.startswith("."):
        return text[1:].strip()
    inner = text[1:-1].strip()
    return int(inner) if inner.isdigit() else inner[1:-1]


def _compile_cel(text: str, roots: Collection[str]) -> CelExpression:
    if _MULTIPLIES.search(text):
        # A list of 3,000 mapped to itself is 9 million values and 1.6 GB: the engine bounds steps, not results.
        raise ExpressionError("map() is not available here")
    try:
        return CelExpression(cel.Expression.compile(text, roots=roots))
    except cel.ExpressionError as error:
        raise ExpressionError(f"not CEL: {error}") from error
