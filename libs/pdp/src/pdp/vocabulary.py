"""What a condition may speak of: the roots, their members, and the variables a document adds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from pdp.cel import Expression, ExpressionError

MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "principal": frozenset(("id", "kind", "roles", "scopes", "teams", "team", "mfa", "auth_age_s", "chain")),
    "resource": frozenset(("kind", "id", "attr")),
    "run": frozenset(("estimated_cost_usd", "depth", "trigger", "model")),
    "request": frozenset(("ip",)),
}
"""The members of each root that has a fixed set of them."""

ROOTS: Final = frozenset((*MEMBERS, "action"))
TIMESTAMPS: Final = frozenset(("now",))
MAX_CONDITION: Final = 4_096
"""A condition as written has at most this many characters."""

_RAW: Final = r"""[bB]?[rR][bB]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')"""
_QUOTED: Final = r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""
_SILENT: Final = re.compile(rf"{_RAW}|{_QUOTED}|//[^\n]*", re.DOTALL)
_MEMBER: Final = re.compile(r"(?<![\w.])(principal|resource|run|request)\s*\.\s*([A-Za-z_]\w*)(?!\s*\()")
_VARIABLE: Final = re.compile(r"(?<![\w.])vars\s*\.\s*([A-Za-z_]\w*)")
_USE: Final = re.compile(r"(?<![\w.])(principal|resource|run|request|action|now)\b(?:\s*\.\s*([A-Za-z_]\w*))?")


def _spoken(text: str) -> str:
    """The text with its strings and comments blanked out, so that only names and operators are left in their places."""
    return _SILENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def spoken_of(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The roots that these expressions speak of, each with those of its members that have to be there."""
    found: dict[str, set[str]] = {}
    for text in texts:
        for root, member in _USE.findall(_spoken(text)):
            members = MEMBERS.get(root, frozenset())
            found.setdefault(root, set()).update({member} if member in members else members)
    return {root: tuple(sorted(found[root])) for root in sorted(found)}


def inline(text: str, variables: Mapping[str, str]) -> str:
    """The text with each `vars.name` replaced by that variable's own expression."""
    pieces, end = [], 0
    for found in _VARIABLE.finditer(_spoken(text)):
        if found[1] in variables:
            pieces += [text[end : found.start()], "(", variables[found[1]], "\n)"]
            end = found.end()
    return "".join((*pieces, text[end:]))


def compile_condition(text: str, variables: Mapping[str, str], *, truth: bool = True) -> Expression:
    """Compile an expression over the policy roots and these variables; ExpressionError at its place in `text`."""
    if len(text) > MAX_CONDITION:
        raise ExpressionError(f"A condition has at most {MAX_CONDITION} characters.")
    spoken = _spoken(text)
    for found in _MEMBER.finditer(spoken):
        if found[2] not in MEMBERS[found[1]]:
            raise _at(
                text, found.start(2), f"{found[1]} has no {found[2]!r}; it has {', '.join(sorted(MEMBERS[found[1]]))}"
            )
    for found in _VARIABLE.finditer(spoken):
        if found[1] not in variables:
            raise _at(text, found.start(1), f"there is no variable {found[1]!r} above this")
    full = inline(text, variables)
    try:
        expression = Expression.compile(full, roots=ROOTS, timestamps=TIMESTAMPS)
    except ExpressionError as error:
        if full == text:
            raise
        raise ExpressionError(error.message) from None
    if truth and not expression.is_condition:
        raise ExpressionError("a condition is true or false")
    return expression


def _at(text: str, offset: int, message: str) -> ExpressionError:
    before = text[:offset]
    return ExpressionError(message, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)
