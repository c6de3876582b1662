"""The one door to the CEL engine: compile over declared names, evaluate, keep errors apart from values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, Final, final

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed

MAX_TEXT: Final = 16_384
"""An expression above this many characters is refused before it is parsed."""
_CACHED: Final = 8_192
_PLACE: Final = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")
_TRAILER: Final = re.compile(r"\s*(\[[A-Z_]+\]|\(in container ''\))\s*$")
_ATOMS: Final = frozenset((int, float, bool, type(None), bytes))


class ExpressionError(ValueError):
    """An expression that does not compile, or has no value for what it was given. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


@final
class Expression:
    """A compiled CEL expression over declared names."""

    __slots__ = ("_environment", "_program", "roots", "text")

    def __init__(self, text: str, roots: frozenset[str], environment: Any, program: Any) -> None:
        self.text = text
        self.roots = roots
        self._environment = environment
        self._program = program

    @staticmethod
    def compile(text: str, *, roots: Iterable[str], timestamps: Iterable[str] = ()) -> Expression:
        """Compile `text` over these names, of which `timestamps` hold times; ExpressionError says where it fails.

        The same text over the same names is compiled once per process.
        """
        return _compile(text, frozenset(roots), frozenset(timestamps))

    @property
    def is_condition(self) -> bool:
        """Can its value be a truth? False where its type alone says no."""
        return self._program.return_type() in (cel.Type.BOOL, cel.Type.DYN)

    def bind(self, values: Mapping[str, Any]) -> Any:
        """Values in the engine's own form, to be shared by every expression over the same names.

        ExpressionError when the engine cannot hold one of them.
        """
        try:
            return self.hold({n: v if type(v) is datetime else plain(v) for n, v in values.items()})
        except RecursionError:
            raise ExpressionError("a value is too deep for expressions") from None

    def hold(self, values: Mapping[str, Any]) -> Any:
        """`bind`, for values that are already in types the engine knows."""
        try:
            return self._environment.Activation(data=values)
        except (RuntimeError, UnicodeError) as error:
            raise ExpressionError(f"a value is not for expressions: {error}") from None

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The expression's value as plain Python; ExpressionError when it has none."""
        try:
            value = self._program.eval(activation=self.bind(values))
        except RuntimeError as error:
            raise ExpressionError(str(error)) from None
        if value.type() == cel.Type.ERROR:
            raise ExpressionError(str(value.value()))
        return value.plain_value()

    def truth(self, bound: Any) -> bool | str:
        """True, False, or the text of the error, over values from `bind`. Only `is True` means yes."""
        try:
            value = self._program.eval(activation=bound).value()
        except RuntimeError as error:
            return str(error)
        if value is True or value is False:
            return bool(value)
        return value if isinstance(value, str) else f"the value is no truth but {type(value).__name__}"


@lru_cache(maxsize=64)
def _environment(roots: frozenset[str], timestamps: frozenset[str]) -> Any:
    kinds = dict.fromkeys(roots, cel.Type.DYN) | dict.fromkeys(timestamps, cel.Type.TIMESTAMP)
    return cel.NewEnv(variables=kinds)


@lru_cache(maxsize=_CACHED)
def _compile(text: str, roots: frozenset[str], timestamps: frozenset[str]) -> Expression:
    if len(text) > MAX_TEXT or "\0" in text:
        raise ExpressionError(f"An expression has at most {MAX_TEXT} characters and no NUL.")
    environment = _environment(roots, timestamps)
    try:
        program = environment.compile(text)
    except RuntimeError as error:
        raise _located(str(error)) from None
    return Expression(text, roots | timestamps, environment, program)


def _located(text: str) -> ExpressionError:
    found = _PLACE.search(text)
    if found is None:
        return ExpressionError(_TRAILER.sub("", text))
    line, column = max(1, int(found[1])), max(1, int(found[2]))
    return ExpressionError(_TRAILER.sub("", found[3]), line, column)


def plain(value: Any) -> Any:
    """The same value in types the engine knows: one foreign type anywhere would spoil every look at the whole.

    Times become RFC 3339 text, which `timestamp()` reads: the engine takes them only as whole roots.
    ExpressionError for text with a NUL: the engine ends it there, and would find it equal to its beginning.
    """
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise ExpressionError("a text holds a NUL character")
        return value
    if kind in _ATOMS:
        return value
    if isinstance(value, Mapping):
        return {plain(key if type(key) is str else str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return f"{value.total_seconds():f}s" if isinstance(value, timedelta) else plain(str(value))
