"""A rule's `when`: one CEL expression, or a tree of them under all, any and none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pdp.cel import Expression, ExpressionError
from pdp.marked import Marked, Path
from pdp.problems import Problem
from pdp.vocabulary import ROOTS, TIMESTAMPS, compile_condition

MAX_LEAVES: Final = 50
_WORDS: Final = frozenset(("all", "any", "none"))
_OPERATORS: Final[Mapping[str, str]] = {"all": " && ", "any": " || ", "none": " || "}


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled `when`. A leaf has an expression and its text; a branch has parts."""

    word: Literal["is", "all", "any", "none"]
    text: str
    """As written, for a leaf."""
    parts: tuple[Condition, ...]
    expression: Expression
    """The whole condition as one expression, so that a decision evaluates it at once."""

    def leaves(self) -> Iterator[Condition]:
        """The clauses as they were written, in reading order."""
        if self.word == "is":
            yield self
        for part in self.parts:
            yield from part.leaves()


def read_condition(
    value: Any, path: Path, marked: Marked, variables: Mapping[str, str], problems: list[Problem]
) -> Condition | None:
    """The condition at this path; what is wrong with it is added to `problems`, and then there is none."""
    if isinstance(value, str):
        return _leaf(value, path, marked, variables, problems)
    words = sorted(value) if isinstance(value, dict) else []
    if len(words) != 1 or words[0] not in _WORDS:
        problems.append(marked.problem(path, "A condition is CEL text or one of all, any, none.", "invalid_condition"))
        return None
    word = words[0]
    items = value[word]
    if not isinstance(items, list) or not items:
        problems.append(marked.problem((*path, word), f"{word!r} holds a list of conditions.", "invalid_condition"))
        return None
    parts = [read_condition(item, (*path, word, i), marked, variables, problems) for i, item in enumerate(items)]
    whole = tuple(part for part in parts if part is not None)
    if len(whole) < len(parts):
        return None
    return _branch(word, whole, path, marked, problems)


def _leaf(
    text: str, path: Path, marked: Marked, variables: Mapping[str, str], problems: list[Problem]
) -> Condition | None:
    try:
        return Condition("is", text.strip(), (), compile_condition(text, variables))
    except ExpressionError as error:
        problems.append(marked.problem_in(path, (error.line, error.column), error.message, "invalid_expression"))
        return None


def _branch(
    word: Any, parts: tuple[Condition, ...], path: Path, marked: Marked, problems: list[Problem]
) -> Condition | None:
    joined = _OPERATORS[word].join(f"({part.expression.text}\n)" for part in parts)
    try:
        text = f"!({joined})" if word == "none" else joined
        whole = Condition(word, "", parts, Expression.compile(text, roots=ROOTS, timestamps=TIMESTAMPS))
    except ExpressionError as error:
        problems.append(marked.problem(path, error.message, "invalid_condition"))
        return None
    if sum(1 for _ in whole.leaves()) > MAX_LEAVES:
        problems.append(marked.problem(path, f"A rule has at most {MAX_LEAVES} clauses.", "invalid_condition"))
        return None
    return whole
