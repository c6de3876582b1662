"""A table's columns as callers may name them: each reads the text of a query and the JSON of a filter group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import JSON, JSONB

MAX_VALUE_LENGTH = 500
"""The longest text a filter compares with."""

_LIMITS = ((SmallInteger, 2**15), (BigInteger, 2**63), (Integer, 2**31))


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError("say true or false") from None


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("say a time as 2026-11-22T15:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError("say an id as 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("say a day as 2026-11-22") from None


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("say a number") from None


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text holds no NUL")
    return text


_READERS: dict[type, Callable[[str], Any]] = {
    str: _text, bool: _boolean, datetime: _time, date: _day, UUID: _uuid, Decimal: _decimal,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """What one column holds, and how a value of it is written and read."""

    name: str
    sql: str
    """The quoted name."""
    python: type
    is_nullable: bool
    read: Callable[[str], Any]
    """The value of a text; ValueError says how to write it."""
    words: tuple[str, ...] = ()
    """All that it can hold; empty where it can be anything."""

    @property
    def is_json(self) -> bool:
        """Whether values are JSON documents, which the driver hands over as text."""
        return self.python is dict

    def value(self, given: object) -> Any:
        """A value from a query's text or a filter's JSON; ValueError if it is none."""
        if isinstance(given, bool):
            given = "true" if given else "false"
        elif isinstance(given, (int, float)):
            given = str(given)
        if not isinstance(given, str):
            raise ValueError("say a text, a number, true or false")  # noqa: TRY004  (a caller's mistake, not ours)
        if len(given) > MAX_VALUE_LENGTH:
            raise ValueError(f"at most {MAX_VALUE_LENGTH} characters")
        return self.read(given)

    def write(self, value: Any) -> str | int | bool | None:
        """The value as a cursor carries it: `read` of it is the value again."""
        if isinstance(value, (str, int, bool)):
            return value
        return value.isoformat() if isinstance(value, (datetime, date)) else str(value)


def kind_of(column: Column[Any]) -> ColumnKind:
    """The kind of a table's column."""
    if isinstance(column.type, (JSON, JSONB)):
        python: type = dict
    else:
        python = column.type.python_type
    reader = _integer(column) if python is int else _READERS.get(python, _unreadable)
    return ColumnKind(column.name, f'"{column.name}"', python, bool(column.nullable), reader)


def _integer(column: Column[Any]) -> Callable[[str], int]:
    # Out of the column's range the driver refuses to send it, and there is no such row anyway.
    limit = next(limit for kind, limit in _LIMITS if isinstance(column.type, kind))

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("say a whole number") from None
        if not -limit <= number < limit:
            raise ValueError(f"between {-limit} and {limit - 1}")
        return number

    return read


def _unreadable(_: str) -> Any:
    raise ValueError("can't be compared")
