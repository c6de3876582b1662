"""Filters: what a caller may ask of a table's rows, as parameterized SQL. Nothing a caller writes becomes SQL text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from chassis.errors import InvalidError
from resources.columns import ColumnKind

MAX_CONDITIONS = 20
MAX_DEPTH = 4
MAX_IN = 100
"""How many values `in` may name."""
OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "like", "null")
_COMPARISONS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_UNORDERED = (bool, dict)


@dataclass
class Where:
    """Conditions and their parameters, numbered as PostgreSQL wants them."""

    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def parameter(self, value: Any) -> str:
        """The placeholder of one more value."""
        self.values.append(value)
        return f"${len(self.values)}"

    def equal(self, column: ColumnKind, value: Any) -> None:
        """Only rows that have this value."""
        self.conditions.append(f"{column.sql} = {self.parameter(value)}")

    def sql(self) -> str:
        """` where ...`, or nothing."""
        return f" where {' and '.join(self.conditions)}" if self.conditions else ""


@dataclass(frozen=True, slots=True)
class Condition:
    """One column, one operator, one value, already read."""

    column: ColumnKind
    operator: str
    value: Any

    def sql(self, where: Where) -> str:
        """The condition with placeholders for its values."""
        name, operator = self.column.sql, self.operator
        if operator == "null":
            return f"{name} is null" if self.value else f"{name} is not null"
        placeholder = where.parameter(self.value)
        if operator == "in":
            return f"{name} = any({placeholder})"
        if operator == "ne":
            return f"{name} is distinct from {placeholder}"
        if operator == "like":
            return f"{name} ilike {placeholder}"
        return f"{name} {_COMPARISONS[operator]} {placeholder}"


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by `and` or `or`."""

    word: str
    members: Sequence[Condition | Group]

    def sql(self, where: Where) -> str:
        """The members in parentheses."""
        return "(" + f" {self.word} ".join(member.sql(where) for member in self.members) + ")"


class FilterReader:
    """Reads the filters of one request against the columns a table allows; gathers every mistake before it refuses."""

    def __init__(self, allowed: Mapping[str, ColumnKind]) -> None:
        self._allowed = allowed
        self._count = 0
        self.errors: list[dict[str, Any]] = []

    def parameter(self, name: str, text: str) -> Condition | None:
        """`status=active` or `created_at[gte]=2026-01-01`; None when it is wrong, with the mistake in `errors`."""
        column_name, bracket, rest = name.partition("[")
        operator = rest.removesuffix("]") if bracket else "eq"
        given: object = text.split(",") if operator == "in" else text
        try:
            return self._condition(column_name, operator, given)
        except ValueError as mistake:
            self._refuse(name, mistake)
            return None

    def group(self, text: str) -> Condition | Group | None:
        """`{"or": [{"status": "active"}, {"created_at": {"gte": "2026-01-01"}}]}`; None when it is wrong."""
        try:
            return self._node(orjson.loads(text), 1)
        except orjson.JSONDecodeError:
            self._refuse("filter", ValueError("is no JSON"))
        except ValueError as mistake:
            self._refuse("filter", mistake)
        return None

    def raise_for_errors(self) -> None:
        """InvalidError when anything was wrong."""
        if self.errors:
            raise InvalidError("The list cannot be made; `errors` names each problem.", errors=self.errors)

    def _refuse(self, name: str, mistake: Exception) -> None:
        self.errors.append({"loc": ["query", name[:100]], "message": str(mistake), "code": "bad_filter"})

    def _node(self, node: object, depth: int) -> Condition | Group:
        if depth > MAX_DEPTH:
            raise ValueError(f"at most {MAX_DEPTH} groups inside each other")
        if not isinstance(node, dict) or not node:
            raise ValueError('say {"field": value}, {"field": {"operator": value}}, {"and": [...]} or {"or": [...]}')
        members = [member for key, value in node.items() for member in self._members(key, value, depth)]
        return members[0] if len(members) == 1 else Group("and", members)

    def _members(self, key: str, value: object, depth: int) -> Iterable[Condition | Group]:
        if key in ("and", "or"):
            if not isinstance(value, list) or not value:
                raise ValueError(f"`{key}` takes a list")
            yield Group(key, [self._node(member, depth + 1) for member in value])
        elif isinstance(value, dict):
            for operator, operand in value.items():
                yield self._condition(key, operator, operand)
        elif value is None:
            yield self._condition(key, "null", given=True)
        else:
            yield self._condition(key, "eq", value)

    def _condition(self, name: str, operator: str, given: object) -> Condition:
        self._count += 1
        if self._count > MAX_CONDITIONS:
            raise ValueError(f"at most {MAX_CONDITIONS} conditions")
        column = self._allowed.get(name)
        if column is None:
            raise ValueError(f"no filter; there are: {', '.join(sorted(self._allowed)) or 'none'}")
        if operator not in OPERATORS:
            raise ValueError(f"no operator; there are: {', '.join(OPERATORS)}")
        return Condition(column, operator, _operand(column, operator, given))


def _operand(column: ColumnKind, operator: str, given: object) -> Any:
    if operator == "null":
        if not isinstance(given, bool) and str(given).lower() not in ("true", "false"):
            raise ValueError("`null` takes true or false")
        return given if isinstance(given, bool) else str(given).lower() == "true"
    if operator == "in":
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_IN:
            raise ValueError(f"`in` takes 1 to {MAX_IN} values")
        return [_known(column, one) for one in given]
    if operator == "like" and column.python is not str:
        raise ValueError("`like` is for texts")
    if operator in ("lt", "lte", "gt", "gte") and column.python in _UNORDERED:
        raise ValueError(f"has no order for `{operator}`")
    return _known(column, given) if operator in ("eq", "ne") else column.value(given)


def _known(column: ColumnKind, given: object) -> Any:
    """The value, if there can be rows that have it: to look for any other is a mistake, and reads all there are."""
    value = column.value(given)
    if column.words and value not in column.words:
        raise ValueError(f"is one of: {', '.join(column.words)}")
    return value
