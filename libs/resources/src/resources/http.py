"""Lists and versions at the HTTP door: query parameters in, ready bytes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, Field

from chassis.errors import InvalidError
from resources.cursors import read_order
from resources.filters import Condition, FilterReader, Group
from resources.listing import DEFAULT_LIMIT, MAX_LIMIT, MAX_SEARCH_LENGTH, ListQuery, Page, Resource
from resources.versions import read_version

Out = TypeVar("Out", bound=BaseModel)


class PageOut(BaseModel, Generic[Out]):
    """One page of a list."""

    items: list[Out]
    next_cursor: str | None = Field(description="Hand it back as `cursor` for the next page; null: this is the end.")


class CountOut(BaseModel):
    """How many there are."""

    count: int


class Listing(Generic[Out]):
    """The HTTP side of a resource's list: reads the query, documents it, and answers with a page of `out`.

        AGENT_LIST = Listing(agents.AGENTS, AgentOut)

        @router.get("", permission="agent:read", **AGENT_LIST.options)
        async def list_agents(uow: Uow, query: Annotated[ListQuery, Depends(AGENT_LIST.query)]) -> Response:
            return AGENT_LIST.answer(await agents.list_agents(uow, query))

    Every field of `out` is a column of the resource's table, so that rows become JSON without passing through objects.
    """

    def __init__(self, resource: Resource, out: type[Out], *, others: Iterable[str] = ()) -> None:
        """`others` are query parameters the route reads itself."""
        self.resource, self.out = resource, out
        self.columns = tuple(out.model_fields)
        self._others = frozenset(others)
        unknown = [name for name in self.columns if name not in resource.columns]
        custom = out.__pydantic_decorators__.field_serializers or out.__pydantic_decorators__.computed_fields
        if unknown or custom:
            raise TypeError(f"{out.__name__}: every field must be a plain column of {resource.table}: {unknown}")
        self._documents = tuple(name for name in self.columns if resource.columns[name].is_json)
        self.options: dict[str, Any] = {
            "response_model": PageOut[out],  # type: ignore[valid-type]  # made at run time, for the document only
            "openapi_extra": {"parameters": _documented(resource, self.columns, self._others)},
        }
        """What the route's decorator is told, for the OpenAPI document."""

    async def query(self, request: Request) -> ListQuery:
        """The list a request asks for; InvalidError names every mistake."""
        # async although it waits for nothing: FastAPI would run a plain function in a thread, which costs more than it.
        resource, reader, known = self.resource, FilterReader(self.resource.filters), dict.fromkeys(_PARAMETERS, "")
        filters: list[Condition | Group | None] = []
        for name, text in request.query_params.multi_items():
            if name in known:
                known[name] = text
            elif name not in self._others:
                filters.append(reader.parameter(name, text))
        if known["filter"]:
            filters.append(reader.group(known["filter"]))
        reader.raise_for_errors()
        order = resource.default_order
        if known["sort"]:
            order = read_order(known["sort"], resource.sorts, resource.columns["id"])
        return ListQuery(
            self._fields(known["fields"]) if known["fields"] else self.columns,
            order,
            _limit(known["limit"]) if known["limit"] else DEFAULT_LIMIT,
            [condition for condition in filters if condition is not None],
            self._search(known["q"]),
            order.read_cursor(known["cursor"]) if known["cursor"] else None,
            self._deleted(known["deleted"]),
        )

    def answer(self, page: Page) -> Response:
        """The page as JSON."""
        for name in self._documents:
            for row in page.rows:
                if isinstance(row.get(name), str):
                    row[name] = orjson.Fragment(row[name])
        body = {"items": page.rows, "next_cursor": page.next_cursor}
        return Response(orjson.dumps(body, _plain, orjson.OPT_UTC_Z), media_type="application/json")

    def _fields(self, text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        if any(name not in self.columns for name in names):
            raise _mistake("fields", f"names some of: {', '.join(self.columns)}")
        return names

    def _search(self, text: str) -> str:
        if text and not self.resource.search:
            raise _mistake("q", "this list can't be searched")
        if len(text) > MAX_SEARCH_LENGTH or "\0" in text:
            raise _mistake("q", f"at most {MAX_SEARCH_LENGTH} characters")
        return text

    def _deleted(self, text: str) -> bool:
        if text not in ("", "true", "false") or (text and self.resource.retired is None):
            raise _mistake("deleted", "true or false, where rows are kept when they are deleted")
        return text == "true"


_PARAMETERS = ("cursor", "deleted", "fields", "filter", "limit", "q", "sort")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MAX_LIMIT:
        raise _mistake("limit", f"a number from 1 to {MAX_LIMIT}")
    return int(text)


def _mistake(name: str, message: str) -> InvalidError:
    return InvalidError(
        "The list cannot be made; `errors` names each problem.",
        errors=[{"loc": ["query", name], "message": message, "code": "bad_query"}],
    )


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _documented(resource: Resource, columns: tuple[str, ...], others: frozenset[str]) -> list[dict[str, Any]]:
    texts = {
        "cursor": "`next_cursor` of the page before.",
        "fields": f"Only these fields, of: {', '.join(columns)}.",
        "filter": 'Groups, as JSON: `{"or": [{"status": "active"}, {"created_at": {"gte": "2026-01-01"}}]}`.',
        "sort": f"Of: {', '.join(resource.sorts)}; `-` for downwards. Else {resource.default_order.text}.",
    }
    if resource.search:
        texts["q"] = f"A text within: {', '.join(column.name for column in resource.search)}."
    parameters = [_parameter(name, text, {"type": "string"}) for name, text in texts.items()]
    limits = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    parameters.append(_parameter("limit", "How many at most.", limits))
    if resource.retired is not None:
        parameters.append(_parameter("deleted", "Deleted ones instead of living ones.", {"type": "boolean"}))
    for name in resource.filters:
        text = f"Equal to this; `{name}[ne|lt|lte|gt|gte|in|like|null]=` for other comparisons."
        parameters.append(_parameter(name, text, {"type": "string"}))
    return [parameter for parameter in parameters if parameter["name"] not in others]


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


async def _expected(if_match: Annotated[str | None, Header()] = None) -> int | None:
    return read_version(if_match)


ExpectedVersion = Annotated[int | None, Depends(_expected)]
"""The version a request says it changes (`If-Match: "3"`); for `require_version`, which refuses None with 428."""
