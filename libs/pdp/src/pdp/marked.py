"""YAML that strangers wrote, as plain values that remember their place. Aliases, tags and surprises are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, cast

import yaml

from pdp.problems import DocumentError, Problem

Path = tuple[str | int, ...]
Place = tuple[int, int]

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 24
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The plain words of YAML 1.2: `no` and `on` are words, `4:30` is not a number.
_INTEGER: Final = re.compile(r"[-+]?\d{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(\d+\.\d*|\.?\d+)([eE][-+]?\d{1,3})?")
_WORDS: Final[dict[str, Any]] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(slots=True)
class Text:
    """A scalar of the document: where its first character stands, and whether its lines are those of the document."""

    line: int
    column: int
    indent: int | None
    """Of a literal block: how far its lines are indented. None where the text is on one line of the document."""
    exact: bool

    def place(self, line: int, column: int) -> Place:
        """Where in the document the given place of the scalar's own text is."""
        if self.indent is not None:
            return self.line + line - 1, self.indent + column
        if self.exact and line == 1:
            return self.line, self.column + column - 1
        return self.line, self.column


@dataclass(slots=True)
class Marked:
    """A document's value, and the place of each part of it by path."""

    value: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    texts: dict[Path, Text] = field(default_factory=dict)

    def problem(self, path: Path, message: str, code: str, *, at_key: bool = False) -> Problem:
        """A problem with the part at this path, or with the nearest part around it that was written."""
        if at_key and path in self.keys:
            return Problem(*self.keys[path], message, code)
        while path and path not in self.values:
            path = path[:-1]
        return Problem(*self.values.get(path, (1, 1)), message, code)

    def problem_in(self, path: Path, place: Place, message: str, code: str) -> Problem:
        """A problem at a place inside the text at this path."""
        text = self.texts.get(path)
        return Problem(*text.place(*place), message, code) if text else self.problem(path, message, code)


def read_yaml(text: str) -> Marked:
    """The one document in the text; DocumentError where it is no plain YAML."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        _refuse(1, 1, "The text is not UTF-8.", "not_yaml")
    if size > MAX_BYTES:
        _refuse(1, 1, f"A policy has at most {MAX_BYTES} bytes; this one has {size}.", "too_large")
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = error.problem or str(error)
        # The scanner reads ahead of the events that are counted here, and has a limit of its own.
        code = "too_deep" if "nesting depth" in message else "not_yaml"
        _refuse(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message, code)
    except yaml.YAMLError as error:
        _refuse(1, 1, str(error), "not_yaml")
    marked = Marked()
    marked.value = _Reader(text, marked).read(root, ()) if root is not None else None
    return marked


def _refuse(line: int, column: int, message: str, code: str) -> NoReturn:
    raise DocumentError([Problem(line, column, message, code)])


def _check_events(text: str) -> None:
    """Refuse what could surprise or explode, before anything recursive touches the text."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse(*place, "Anchors and aliases are not allowed.", "alias_not_allowed")
        if getattr(event, "tag", None) not in (None, "!"):
            _refuse(*place, "Tags are not allowed.", "tag_not_allowed")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                _refuse(*place, "A policy is one document.", "not_yaml")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                _refuse(*place, f"Nesting goes at most {MAX_DEPTH} levels deep.", "too_deep")
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    def __init__(self, text: str, marked: Marked) -> None:
        self._lines = text.splitlines()
        self._marked = marked

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._marked.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(each, (*path, index)) for index, each in enumerate(node.value)]
        return self._scalar(cast("yaml.ScalarNode", node), path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                _refuse(*place, "A key is a plain word.", "not_yaml")
            key = key_node.value
            if key in found:
                _refuse(*place, f"The key {key!r} is here twice.", "duplicate_key")
            self._marked.keys[*path, key] = place
            found[key] = self.read(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if node.style == "|":
            self._marked.texts[path] = Text(line + 1, 1, self._indent_below(line), exact=True)
            return node.value
        one_line = node.start_mark.line == node.end_mark.line
        quote = 1 if node.style in ("'", '"') else 0
        self._marked.texts[path] = Text(line, column + quote, None, exact=one_line)
        return node.value if node.style in ("'", '"', ">") else _plain_word(node.value)

    def _indent_below(self, line: int) -> int:
        for text in self._lines[line:]:
            if text.strip():
                return len(text) - len(text.lstrip(" "))
        return 0


def _plain_word(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(word):
        return int(word)
    return float(word) if _NUMBER.fullmatch(word) else word
