"""Orders and cursors: a page begins where the last one ended, found by the index, however far down it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from chassis.errors import InvalidError
from resources.columns import ColumnKind
from resources.filters import Where

MAX_CURSOR_LENGTH = 4_000


@dataclass(frozen=True, slots=True)
class Order:
    """Columns and directions that put every row in exactly one place; the last column is the id."""

    text: str
    """As the caller wrote it: `-created_at,name`."""
    columns: Sequence[tuple[ColumnKind, bool]]
    """(column, descending)."""

    def sql(self) -> str:
        """` order by ...`."""
        return " order by " + ", ".join(f"{column.sql} desc" if down else column.sql for column, down in self.columns)

    def after(self, where: Where, values: Sequence[Any]) -> None:
        """Only rows behind the one with these values in the order's columns."""
        directions = {down for _, down in self.columns}
        placeholders = [where.parameter(value) for value in values]
        if len(directions) == 1:  # one comparison of rows: the index is entered at this place
            names = ", ".join(column.sql for column, _ in self.columns)
            sign = "<" if directions == {True} else ">"
            where.conditions.append(f"({names}) {sign} ({', '.join(placeholders)})")
            return
        steps: list[str] = []
        for position, (column, down) in enumerate(self.columns):
            same = [f"{self.columns[i][0].sql} = {placeholders[i]}" for i in range(position)]
            steps.append(" and ".join([*same, f"{column.sql} {'<' if down else '>'} {placeholders[position]}"]))
        where.conditions.append("(" + " or ".join(f"({step})" for step in steps) + ")")

    def cursor(self, row: Mapping[str, Any]) -> str:
        """What the caller hands back to go on behind this row."""
        values = [column.write(row[column.name]) for column, _ in self.columns]
        return base64.urlsafe_b64encode(orjson.dumps([self.text, *values])).decode().rstrip("=")

    def read_cursor(self, cursor: str) -> list[Any]:
        """The values of the row a page ended with; InvalidError (code `bad_cursor`) for anything but a cursor of it."""
        problem = InvalidError("This cursor does not belong to this list and order.", code="bad_cursor")
        if len(cursor) > MAX_CURSOR_LENGTH:
            raise problem
        try:
            parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if not isinstance(parts, list) or parts[0] != self.text or len(parts) != len(self.columns) + 1:
                raise problem
            # Not `value`: a row's own text may be longer than what a filter may compare with.
            return [
                column.read(str(part).lower() if isinstance(part, bool) else str(part))
                for (column, _), part in zip(self.columns, parts[1:], strict=True)
            ]
        except (ValueError, IndexError, binascii.Error) as error:
            raise problem from error


def read_order(text: str, allowed: Mapping[str, ColumnKind], id_column: ColumnKind) -> Order:
    """The order of `-created_at,name`; InvalidError names the columns there are. Ties are broken by id."""
    columns: list[tuple[ColumnKind, bool]] = []
    for word in text.split(","):
        name = word.strip()
        column = allowed.get(name.removeprefix("-"))
        if column is None or column in [known for known, _ in columns]:
            raise InvalidError(
                "The list cannot be sorted like this.",
                errors=[
                    {
                        "loc": ["query", "sort"],
                        "message": f"names columns of: {', '.join(allowed)}; each once, with - for downwards",
                        "code": "bad_sort",
                    }
                ],
            )
        columns.append((column, name.startswith("-")))
    if columns[-1][0] != id_column:
        columns.append((id_column, columns[-1][1]))
    return Order(text, tuple(columns))
