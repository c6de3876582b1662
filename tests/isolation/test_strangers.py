"""Two organizations side by side: to each, what the other has is answered like what nobody has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import pytest
from tests.isolation.routes import BODIES, Route, published, things_of, things_of_nobody
from tests.town import Reply, Town

_TRACE = re.compile(rb'"trace_id":"[0-9a-f]*"')
_CHANGING = frozenset({"date", "x-correlation-id", "ratelimit", "content-length"})


async def _ask(town: Town, route: Route, ids: Mapping[str, str], key: str) -> Reply:
    # An endless stream is asked for its head alone.
    method = "HEAD" if route.operation == "watch_run" else route.method
    return await town.ask(method, route.at(ids), key, BODIES.get(route.operation), {"If-Match": '"1"'})


def _told(reply: Reply, ids: Mapping[str, str]) -> tuple[object, ...]:
    """The answer without what differs between any two requests: the ids that were asked for, the trace."""
    body = _TRACE.sub(b"", reply.body)
    for name in ids.values():
        body = body.replace(name.encode(), b"<id>")
    names = {name.lower() for name in reply.headers}
    return reply.status, body, names, {n: v for n, v in reply.headers.items() if n.lower() not in _CHANGING}


@pytest.mark.anyio
@pytest.mark.seconds(180)
async def test_strangers_get_404_on_every_route_that_names_something(town: Town, things: dict[str, str]) -> None:
    routes = [route for route in await published(town) if route.names]
    theirs, nobodys = things, things_of_nobody(routes)
    wrong = []
    for route in routes:
        wanted = 403 if route.is_the_platforms else 404
        there = await _ask(town, route, theirs, town.south.key)
        nowhere = await _ask(town, route, nobodys, town.south.key)
        if there.status != wanted or _told(there, theirs) != _told(nowhere, nobodys):
            wrong.append((route.operation, there.status, there.body, nowhere.status, nowhere.body))
    assert wrong == []
    assert len(routes) >= 40


@pytest.mark.anyio
@pytest.mark.seconds(180)
async def test_what_strangers_asked_for_is_there_and_unchanged(town: Town, things: dict[str, str]) -> None:
    """Else a 404 would prove nothing: to its own organization each of those things answers, in its first state."""
    routes = [route for route in await published(town) if route.names and route.method == "GET"]
    ours = things
    before = [await _ask(town, route, ours, town.north.key) for route in routes if not route.is_the_platforms]
    assert [reply.status for reply in before] == [200] * len(before)
    for route in routes:
        await _ask(town, route, ours, town.south.key)
    named = {f"/v1/{noun}/{ours[name]}" for noun, name in (("agents", "agent_id"), ("policies", "policy_id"))}
    for path in named:
        first = await town.ask("GET", path, town.north.key)
        for method, body in (("PATCH", {"description": "stolen"}), ("DELETE", None)):
            assert (await town.ask(method, path, town.south.key, body, {"If-Match": '"1"'})).status == 404
        assert (await town.ask("GET", path, town.north.key)).body == first.body


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_lists_hold_nothing_of_the_other(town: Town, things: dict[str, str]) -> None:
    await things_of(town, town.south)
    shared, compared = [], 0
    for route in await published(town):
        if route.method != "GET" or route.names or route.is_the_platforms or route.operation == "watch_runs":
            continue
        ours, theirs = [await town.ask("GET", route.path, one.key) for one in (town.north, town.south)]
        assert (ours.status, theirs.status) == (200, 200), route.operation
        # The south's audit log tells what the south asked for, a stranger's id too: its rows alone are compared.
        if town.north.id.encode() in theirs.body and route.operation != "list_entries":
            shared.append((route.operation, town.north.id))
        rows = [{row["id"] for row in each.json.get("items", ()) if "id" in row} for each in (ours, theirs)]
        compared += all(rows)
        shared += [(route.operation, each) for each in rows[0] & rows[1]]
    assert shared == []
    assert compared >= len(things) - 4


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_who_watches_hears_nothing_of_the_other(town: Town) -> None:
    """Through the edge, and with runs of both under way at once."""
    path = "/v1/runs/events?seconds=8"
    watching = [asyncio.create_task(town.ask("GET", path, one.key)) for one in (town.north, town.south)]
    await asyncio.sleep(2)
    runs = [(await town.run(one))["id"] for one in (town.north, town.south)]
    ours, theirs = [(await each).body.decode() for each in watching]
    assert [run_id in ours for run_id in runs] == [True, False]
    assert [run_id in theirs for run_id in runs] == [False, True]
    assert "RUN_FINISHED" in ours
    assert "RUN_FINISHED" in theirs
