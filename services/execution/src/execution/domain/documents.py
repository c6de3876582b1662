"""YAML text to JSON values, with the place of every key, for text that strangers write.

YAML 1.2's core schema decides what a plain word is, so `yes`, `on` and `1:30` stay strings. Anchors, aliases, tags and
second documents are refused: a definition is data, and its size is what it looks like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from execution.domain.problems import DefinitionError, Problem

Json: TypeAlias = Any
"""A JSON value: what JSON can say and nothing else."""
PathKey: TypeAlias = str | int
Path: TypeAlias = tuple[PathKey, ...]

MAX_TEXT_BYTES = 128 * 1024
MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_INTEGER = 2**53 - 1

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def dotted(path: Sequence[PathKey]) -> str:
    """The path as people write it: `steps[1].in.topic`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed text: its value, and where in the text each part of it stands."""

    value: Json
    keys: dict[Path, tuple[int, int]]
    values: dict[Path, tuple[int, int]]

    def problem(self, path: Sequence[PathKey], code: str, message: str, *, at_key: bool = False) -> Problem:
        """A problem at this path, or at the nearest part of the text that exists."""
        place = tuple(path)
        marks = self.keys if at_key else self.values
        while place and place not in marks:
            place = place[:-1]
        line, column = marks.get(place, (1, 1))
        return Problem(line=line, column=column, path=dotted(path), code=code, message=message)


def parse_document(text: str) -> Document:
    """Read one YAML document into JSON values, or refuse it with every problem found."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise DefinitionError([Problem(1, 1, "", "invalid_yaml", "The text is not valid Unicode")]) from error
    if size > MAX_TEXT_BYTES:
        raise DefinitionError([Problem(1, 1, "", "too_large", f"At most {MAX_TEXT_BYTES} bytes, not {size}")])
    builder = _Builder(text)
    try:
        value = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = error.problem or "not YAML"
        raise DefinitionError([*builder.problems, Problem(line, column, "", "invalid_yaml", reason)]) from error
    except yaml.YAMLError as error:
        raise DefinitionError([Problem(1, 1, "", "invalid_yaml", "The text holds a character YAML forbids")]) from error
    if builder.problems:
        raise DefinitionError(builder.problems)
    return Document(value, builder.keys, builder.values)


class _Builder:
    """Builds the value from parser events, so that depth and number are bounded while reading, not after."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._count = 0
        self.problems: list[Problem] = []
        self.keys: dict[Path, tuple[int, int]] = {}
        self.values: dict[Path, tuple[int, int]] = {}

    def document(self) -> Json:
        event = next(self._events)
        while not isinstance(event, (yaml.NodeEvent, yaml.StreamEndEvent)):
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise DefinitionError([Problem(1, 1, "", "invalid_yaml", "The text is empty")])
        value = self._value(event, ())
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._stop(event, (), "invalid_yaml", "Only one YAML document is allowed")
        return value

    def _value(self, event: Any, path: Path) -> Json:
        self._count += 1
        self.values[path] = _mark(event)
        if len(path) > MAX_DEPTH:
            self._stop(event, path, "too_deep", f"Nested deeper than {MAX_DEPTH} levels")
        if self._count > MAX_VALUES:
            self._stop(event, path, "too_large", f"More than {MAX_VALUES} values")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._stop(event, path, "invalid_yaml", "Anchors and aliases are not allowed")
        if event.tag not in (None, "!"):
            self._stop(event, path, "invalid_yaml", "Tags are not allowed")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event, path)

    def _mapping(self, path: Path) -> dict[str, Json]:
        mapping: dict[str, Json] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None:
                self._stop(event, path, "invalid_yaml", "A key must be a plain word")
            key, place = event.value, (*path, event.value)
            if key in mapping:
                self._note(event, place, "duplicate_key", f"The key {key!r} is here twice")
            if "\0" in key:
                self._note(event, path, "invalid_value", "A key holds a NUL character")
            self.keys[place] = _mark(event)
            mapping[key] = self._value(next(self._events), place)
        return mapping

    def _sequence(self, path: Path) -> list[Json]:
        items: list[Json] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self.keys[place] = _mark(event)
            items.append(self._value(event, place))
        return items

    def _scalar(self, event: Any, path: Path) -> Json:
        text: str = event.value
        if event.style or event.tag == "!":
            if "\0" in text:
                self._note(event, path, "invalid_value", "The text holds a NUL character")
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        return self._number(event, path, text)

    def _number(self, event: Any, path: Path, text: str) -> Json:
        if _INTEGER.fullmatch(text):
            integer = int(text)
            if abs(integer) > MAX_INTEGER:
                self._note(event, path, "invalid_value", "A whole number beyond 2^53 is not exact in JSON")
            return integer
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                self._note(event, path, "invalid_value", "The number is too large")
            return number
        if _NOT_FINITE.fullmatch(text):
            self._note(event, path, "invalid_value", "JSON has neither infinity nor not-a-number")
        return text

    def _note(self, event: Any, path: Path, code: str, message: str) -> None:
        self.problems.append(Problem(*_mark(event), dotted(path), code, message))

    def _stop(self, event: Any, path: Path, code: str, message: str) -> None:
        self._note(event, path, code, message)
        raise DefinitionError(self.problems)


def _mark(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
