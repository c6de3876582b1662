"""Values with holes: `{"topic": "${input.topic}", "note": "About ${input.topic}"}`.

A string that is one hole keeps the type of what fills it; a hole inside other text becomes text; `$${` is a plain `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from execution.domain.documents import Json, Path
from execution.domain.expressions import ROOTS, Expression, ExpressionError, PathExpression, compile_expression

MAX_HOLES = 100
MAX_TEXT_CHARACTERS = 4 * 1024 * 1024

Render = Callable[[Mapping[str, Json]], Json]

_OPEN = re.compile(r"\$\$\{|\$\{")
_INSIDE = re.compile(r"""[^{}"']+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[{}]""", re.DOTALL)


class TemplateError(ValueError):
    """A template cannot be read; `path` says where inside it."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


class Hole(NamedTuple):
    """One expression of a template and where it stands."""

    path: Path
    expression: Expression


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template; two are equal when their sources are."""

    source: Json
    holes: tuple[Hole, ...] = field(compare=False)
    render: Render = field(compare=False)
    """Fill the holes from the roots; raises ExpressionError when one has no value."""

    def paths(self) -> Iterator[tuple[Path, PathExpression]]:
        """The dotted paths it reads, and where."""
        for hole in self.holes:
            if isinstance(hole.expression, PathExpression):
                yield hole.path, hole.expression


def compile_template(source: Json, roots: Collection[str] = ROOTS) -> Template:
    """Read a template that may use these roots, or raise TemplateError with the place of the fault."""
    holes: list[Hole] = []
    render = _compile(source, (), tuple(roots), holes)
    if len(holes) > MAX_HOLES:
        raise TemplateError((), f"a template has at most {MAX_HOLES} holes")
    return Template(source, tuple(holes), render)


def _compile(source: Json, path: Path, roots: tuple[str, ...], holes: list[Hole]) -> Render:
    before = len(holes)
    render = _compile_part(source, path, roots, holes)
    return render if len(holes) > before or (isinstance(source, str) and "$${" in source) else _constant(source)


def _compile_part(source: Json, path: Path, roots: tuple[str, ...], holes: list[Hole]) -> Render:
    if isinstance(source, str):
        return _compile_text(source, path, roots, holes) if "${" in source else _constant(source)
    if isinstance(source, dict):
        parts = [(key, _compile(value, (*path, key), roots, holes)) for key, value in source.items()]
        return lambda scope: _filled(parts, scope)
    if isinstance(source, list):
        items = [_compile(value, (*path, index), roots, holes) for index, value in enumerate(source)]
        return lambda scope: [render(scope) for render in items]
    return _constant(source)


def _constant(value: Json) -> Render:
    return lambda _scope: value


def _filled(parts: list[tuple[str, Render]], scope: Mapping[str, Json]) -> dict[str, Json]:
    filled = {}
    for key, render in parts:
        filled[key] = render(scope)
    return filled


def _compile_text(text: str, path: Path, roots: tuple[str, ...], holes: list[Hole]) -> Render:
    pieces: list[str | Expression] = []
    try:
        for piece in _pieces(text):
            pieces.append(piece if isinstance(piece, str) else compile_expression(piece[0], roots))
    except ExpressionError as error:
        raise TemplateError(path, str(error)) from error
    holes.extend(Hole(path, piece) for piece in pieces if not isinstance(piece, str))
    if len(pieces) == 1 and not isinstance(pieces[0], str):
        return pieces[0].value
    return lambda scope: _joined(pieces, scope)


def _pieces(text: str) -> Iterator[str | tuple[str]]:
    """Literal text as it is, the source of each hole in a tuple."""
    if text.startswith("${") and text.find("}") == len(text) - 1 and text.count("{") == 1:
        yield (text[2:-1],)
        return
    at, literal = 0, ""
    while match := _OPEN.search(text, at):
        literal += text[at : match.start()]
        if match[0] == "$${":
            literal, at = literal + "${", match.end()
            continue
        if literal:
            yield literal
        end = _end_of_hole(text, match.end())
        yield (text[match.end() : end],)
        literal, at = "", end + 1
    if literal + text[at:]:
        yield literal + text[at:]


def _end_of_hole(text: str, start: int) -> int:
    depth, at = 1, start
    while match := _INSIDE.match(text, at):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
        at = match.end()
    raise ExpressionError("a ${ is never closed")


def _joined(pieces: list[str | Expression], scope: Mapping[str, Json]) -> str:
    texts: list[str] = []
    size = 0
    for piece in pieces:
        text = piece if isinstance(piece, str) else text_of(piece.value(scope))
        size += len(text)
        if size > MAX_TEXT_CHARACTERS:
            raise ExpressionError(f"a text grows beyond {MAX_TEXT_CHARACTERS} characters")
        texts.append(text)
    return "".join(texts)


def text_of(value: Json) -> str:
    """The value as it stands inside other text: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
