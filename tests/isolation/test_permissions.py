"""No route of the edge does anything for somebody who may not: every published operation, asked through the door."""

from __future__ import annotations

import pytest
from tests.isolation.routes import BODIES, OPEN_TO_ANYONE, published, things_of_nobody
from tests.town import Town, until

from pdp.matrix import PERMISSIONS

_ELSEWHERE = "notification:read"
"""A permission of every role that no route asks for yet."""


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_every_route_asks_for_a_permission_that_exists(town: Town) -> None:
    routes = await published(town)
    assert {route.operation for route in routes if route.permission == OPEN_TO_ANYONE} == {"get_me"}
    assert {route.permission for route in routes} - {OPEN_TO_ANYONE} <= PERMISSIONS


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_nobody_without_a_key(town: Town) -> None:
    routes = await published(town)
    nobodys = things_of_nobody(routes)
    wrong = []
    for route in routes:
        for key in ("", "rmt_nonsense"):
            reply = await town.ask(route.method, route.at(nobodys), key, BODIES.get(route.operation))
            if reply.status != 401:
                wrong.append((route.operation, reply.status))
    assert wrong == []


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_nobody_without_the_permission(town: Town, things: dict[str, str]) -> None:
    """The organization's own owner, by a key that is narrowed to something else: refused for what is there too."""
    routes = [route for route in await published(town) if route.permission != OPEN_TO_ANYONE]
    assert _ELSEWHERE not in {route.permission for route in routes}
    asked = {"name": "narrow", "role": "org_owner", "scopes": [_ELSEWHERE]}
    narrow = str((await town.traffic.send("POST", "/v1/api-keys", town.north.key, asked))["api_key"])

    async def is_known() -> bool:
        return (await town.ask("GET", "/v1/me", narrow)).status == 200

    await until(is_known, "the narrow key is known at the edge")
    wrong = []
    for route in routes:
        reply = await town.ask(route.method, route.at(things), narrow, BODIES.get(route.operation), {"If-Match": '"1"'})
        if reply.status != 403 or reply.json["code"] != "missing_scope":
            wrong.append((route.operation, reply.status, reply.body))
    assert wrong == []
