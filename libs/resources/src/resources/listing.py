"""Lists, declared once per table: which columns callers may filter by, sort by and search."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table

from chassis.db import Row
from chassis.errors import ForbiddenError
from chassis.uow import UnitOfWork
from resources.columns import ColumnKind, kind_of
from resources.cursors import Order, read_order
from resources.filters import Condition, Group, Where

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_SEARCH_LENGTH = 100


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What one caller wants to see of a table."""

    columns: tuple[str, ...]
    """What is read of each row."""
    order: Order
    limit: int = DEFAULT_LIMIT
    filters: Sequence[Condition | Group] = ()
    search: str = ""
    after: Sequence[Any] | None = None
    """The values of the row the page before ended with."""
    deleted: bool = False
    """Retired rows instead of living ones."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows in order, as mappings of the columns asked for; JSON documents are still text."""

    rows: list[dict[str, Any]]
    next_cursor: str | None
    """None: this is the end."""


Also = Callable[[UnitOfWork, Where], str]
"""A condition in SQL, its values handed to `Where.parameter`; empty: no others."""


class Resource:
    """What callers may ask of one table's rows. A mistake in it fails when the service is imported."""

    def __init__(
        self,
        row: type[Row],
        *,
        filters: Sequence[str] = (),
        sorts: Sequence[str] = ("created_at",),
        default_sort: str = "-created_at",
        search: Sequence[str] = (),
        own: str = "created_by",
        also: Also | None = None,
        retired: str | None = None,
        words: Mapping[str, Iterable[str]] | None = None,
        indexed: Mapping[str, Sequence[Collection[str]]] | None = None,
    ) -> None:
        """Declare a list of `row`.

        `sorts` never hold null: a row without a value has no place in the order. `search` are the texts that `q` looks
        into. `own` is compared with the caller where a right reaches only its own; `also` says which other rows it
        reaches then. `retired` is the column that says since when a row is deleted; such rows are shown only to who
        asks for them. `words` are all that a column can hold; `indexed` are those that have an index of their own.
        """
        table = row.__table__
        if not isinstance(table, Table):
            raise TypeError(f"{row.__name__} is no plain table")
        self.row = row
        self.table = f'"{table.name}"'
        known = {name: tuple(map(str, each)) for name, each in (words or {}).items()}
        kinds = [replace(kind_of(column), words=known.pop(column.name, ())) for column in table.columns]
        self.columns: dict[str, ColumnKind] = {column.name: column for column in kinds}
        self._named(tuple(known))
        self.filters = self._named(filters)
        self.sorts = self._named((*sorts, "id"))
        self.search = tuple(self._named(search).values())
        self.own = self.columns.get(own)
        self.also = also
        self.retired = self._named((retired,))[retired] if retired else None
        self.indexed = {
            self.columns[name]: [(frozenset(words), _among(self.columns[name], words)) for words in parts]
            for name, parts in (indexed or {}).items()
        }
        nullable = [name for name, column in self.sorts.items() if column.is_nullable]
        if nullable:
            raise TypeError(f"{self.table}: no order by columns that may be null: {', '.join(nullable)}")
        self.default_order = read_order(default_sort, self.sorts, self.columns["id"])

    def all_of(self, limit: int = MAX_LIMIT) -> ListQuery:
        """The first rows with every column: for the service's own questions."""
        return ListQuery(tuple(self.columns), self.default_order, limit)

    def where(self, uow: UnitOfWork, query: ListQuery, fixed: Mapping[str, Any]) -> Where:
        """Which rows the caller gets: its own only where its right reaches no further."""
        where = Where()
        for name, value in fixed.items():
            where.equal(self.columns[name], value)
        if uow.permit.own_only:
            if self.own is None:
                raise ForbiddenError("Your role shows single rows of these, not the list.", code="own_only")
            mine = f"{self.own.sql} = {where.parameter(uow.permit.owner_id)}"
            more = self.also(uow, where) if self.also is not None else ""
            where.conditions.append(f"({mine} or {more})" if more else mine)
        if self.retired is not None:
            where.conditions.append(f"{self.retired.sql} is {'not ' if query.deleted else ''}null")
        for condition in query.filters:
            where.conditions += [condition.sql(where), *self._index_of(condition)]
        if query.search:
            escaped = query.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            placeholder = where.parameter(f"%{escaped}%")
            where.conditions.append("(" + " or ".join(f"{c.sql} ilike {placeholder}" for c in self.search) + ")")
        return where

    def _index_of(self, condition: Condition | Group) -> list[str]:
        """The condition of the index that has all that is asked for, in words: a plan for any value does not see it."""
        if not isinstance(condition, Condition) or condition.operator not in ("eq", "in"):
            return []
        asked = {condition.value} if condition.operator == "eq" else set(condition.value)
        return [sql for words, sql in self.indexed.get(condition.column, ()) if asked and asked <= words][:1]

    def _named(self, names: Sequence[str]) -> dict[str, ColumnKind]:
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise TypeError(f"{self.table} has no columns {', '.join(unknown)}")
        return {name: self.columns[name] for name in names}


def lister(resource: Resource) -> Callable[..., Awaitable[Page]]:
    """Make the use case that lists a resource.

    It is called by a name of its own, `list_agents = lister(AGENTS)`. Named columns narrow it:
    `await list_versions(uow, query, agent_id=agent_id)`. Reads plain rows past the ORM, because lists are most of what
    a console asks for; `bench/lists.py` measures it.
    """

    async def list_rows(uow: UnitOfWork, query: ListQuery, **fixed: Any) -> Page:
        order = query.order
        where = resource.where(uow, query, fixed)
        if query.after is not None:
            order.after(where, query.after)
        keys = tuple(column.name for column, _ in order.columns if column.name not in query.columns)
        selected = ", ".join(_selected(resource.columns[name], uow.permit.masked) for name in query.columns + keys)
        # The limit is a checked number in the text: as a parameter, the planner would not know that it is small.
        sql = f"select {selected} from {resource.table}{where.sql()}{order.sql()} limit {query.limit + 1:d}"  # noqa: S608
        rows = [dict(record) for record in await uow.fetch(sql, *where.values)]
        cursor = None
        if len(rows) > query.limit:
            rows.pop()
            cursor = order.cursor(rows[-1])
        for key in keys:
            for row in rows:
                del row[key]
        return Page(rows, cursor)

    return list_rows


def counter(resource: Resource) -> Callable[..., Awaitable[int]]:
    """Make the use case that counts what the resource's list would show."""

    async def count(uow: UnitOfWork, query: ListQuery, **fixed: Any) -> int:
        where = resource.where(uow, query, fixed)
        rows = await uow.fetch(f"select count(*) from {resource.table}{where.sql()}", *where.values)  # noqa: S608
        return int(rows[0][0])

    return count


def _among(column: ColumnKind, words: Collection[str]) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    if not listed.replace("'", "").replace(", ", "").replace("_", "").isalpha():
        raise TypeError(f"{column.sql} is indexed by words, not by {listed}")
    return f"{column.sql} in ({listed})"


def _selected(column: ColumnKind, masked: Sequence[str]) -> str:
    if column.name in masked:
        return f"null as {column.sql}"
    # A document goes through as the text it is: reading it only to write it again would cost more than all the rest.
    return f"{column.sql}::text as {column.sql}" if column.is_json else column.sql
