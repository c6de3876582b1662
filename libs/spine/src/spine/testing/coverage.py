"""What every service's door must pass, made from its own routes.

A service's test inherits it in a few lines, beside the fixture `stage`:

    class TestDoors(DoorCoverage):
        service = unstarted(build, Settings, "policy")
        examples = EXAMPLES

    class TestTables(TableCoverage):
        metadata = Row.metadata
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from uuid import UUID

import pytest
from fastapi.routing import APIRoute

from chassis.caller import Caller
from chassis.http import ANYONE
from chassis.ids import new_id
from contracts.chassis import REFUSED
from spine.service import Service
from spine.testing.client import Answer, Client
from spine.testing.examples import Call, Examples
from spine.testing.stage import Stage

EVERY_ROLE = "org_owner"
MUTATING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TRACE = re.compile(rb'"trace_id":"[0-9a-f]*"')


def routes_of(service: Service) -> Iterator[APIRoute]:
    """Every route of a service, as its routers declare them."""
    for router in service.routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield route


def method_of(route: APIRoute) -> str:
    """The one method of a route."""
    return min(route.methods or ())


def permission_of(route: APIRoute) -> str:
    """The permission a route asks for."""
    return str((route.openapi_extra or {})["x-permission"])


def is_named(route: APIRoute) -> bool:
    """Whether a route is about a thing its path names."""
    return bool(route.param_convertors) or "{" in route.path


def path_of(route: APIRoute, values: Mapping[str, object]) -> str:
    """The route's path with these values, and fresh ids for those not given."""
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: str(values.get(found[1], new_id())), route.path)


async def send(client: Client, route: APIRoute, call: Call) -> Answer:
    """Do an example's request."""
    path = path_of(route, call.path)
    return await client.request(method_of(route), path, call.body, query=call.query, headers=call.headers)


def without_ids(body: bytes) -> bytes:
    """An answer's body without what differs in any two requests."""
    return _TRACE.sub(b"", _ID.sub(b"<id>", body))


class DoorCoverage:
    """Every route of a service: who is let in, who is told what, and what is left behind."""

    service: ClassVar[Service]
    examples: ClassVar[Examples]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per route and question."""
        routes = list(routes_of(self.service))
        wanted = {
            "route": routes,
            "guarded": [route for route in routes if permission_of(route) != ANYONE],
            "named": [route for route in routes if is_named(route)],
            "mutating": [route for route in routes if method_of(route) in MUTATING],
            "reading": [route for route in routes if method_of(route) not in MUTATING and not is_named(route)],
        }
        for fixture, some in wanted.items():
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, some, ids=[route.name for route in some])

    def test_every_route_has_an_example(self) -> None:
        """A route that changes or names something says here how it is used; no example is left of a route that went."""
        names = {route.name for route in routes_of(self.service)}
        wanted = {
            route.name for route in routes_of(self.service) if method_of(route) in MUTATING or is_named(route)
        }  # fmt: skip
        assert not wanted - self.examples.calls.keys(), "these routes have no example"
        assert not self.examples.calls.keys() - names, "these examples have no route"
        assert not self.examples.changes_nothing.keys() - names, "these exceptions have no route"

    @pytest.mark.anyio
    async def test_nobody_without_a_token(self, stage: Stage, route: APIRoute) -> None:
        """401 to a request that does not say who is asking, before anything else is looked at."""
        answer = await stage.client(None).request(method_of(route), path_of(route, {}))
        assert (answer.status, answer.code) == (401, "unauthenticated")

    @pytest.mark.anyio
    async def test_nobody_without_the_permission(self, stage: Stage, guarded: APIRoute) -> None:
        """403 to a caller without a role, and to a key without the scope; who changes things leaves a refused fact."""
        caller = await stage.caller("")
        answer = await send(stage.client(caller), guarded, Call())
        assert (answer.status, answer.code) == (403, "missing_permission")
        scoped = await stage.caller(EVERY_ROLE, caller.organization_id, ("nothing:ever",))
        assert (await send(stage.client(scoped), guarded, Call())).code == "missing_scope"
        refused = await stage.facts(REFUSED[stage.service.name], organization_id=caller.organization_id)
        told = [(fact.data["operation"], fact.data["code"], fact.actor.id) for fact in refused]
        assert told == [
            (guarded.name, "missing_permission", caller.id), (guarded.name, "missing_scope", scoped.id),
        ]  # fmt: skip

    @pytest.mark.anyio
    async def test_a_stranger_learns_nothing(self, stage: Stage, named: APIRoute) -> None:
        """What exists elsewhere is answered like what exists nowhere, in status, headers and body.

        The platform's routes are about every organization: there the strangers are those who are not the platform.
        """
        is_platforms = permission_of(named).startswith("platform:")
        home = await self._caller(stage, named)
        stranger = await (stage.caller(EVERY_ROLE) if is_platforms else self._caller(stage, named))
        call = await self.examples.calls[named.name](stage, home)
        nowhere = {
            name: new_id() if isinstance(value, UUID) else f"no-{new_id().hex[-12:]}"
            for name, value in call.path.items()
        }
        there = await send(stage.client(stranger), named, call)
        none = await send(
            stage.client(stranger), named, Call(nowhere, call.body, call.query, call.headers)
        )  # fmt: skip
        assert there.status == none.status == (403 if is_platforms else 404), there.body
        assert without_ids(_unnamed(there.body, call.path)) == without_ids(_unnamed(none.body, nowhere))
        assert there.headers.keys() == none.headers.keys()

    @pytest.mark.anyio
    async def test_every_change_leaves_a_fact(self, stage: Stage, mutating: APIRoute) -> None:
        """A change that is done is published, and says who did it."""
        caller = await self._caller(stage, mutating)
        call = await self.examples.calls[mutating.name](stage, caller)
        before = len(await stage.facts())
        answer = await send(stage.client(caller), mutating, call)
        assert answer.status < 300, answer.body
        left = (await stage.facts())[before:]
        if mutating.name in self.examples.changes_nothing:
            assert left == []
            return
        assert left, "the change left no fact"
        assert {fact.source for fact in left} == {stage.service.name}
        assert caller.id in {fact.actor.id for fact in left}

    @pytest.mark.anyio
    async def test_lists_show_one_organization(self, stage: Stage, reading: APIRoute) -> None:
        """What a stranger may list holds no trace of the organization that has things."""
        home = await self._caller(stage, reading)
        ids = {str(home.organization_id)}
        for route in routes_of(self.service):
            if is_named(route) and route.name in self.examples.calls:
                call = await self.examples.calls[route.name](stage, home)
                ids |= {str(value) for value in call.path.values() if isinstance(value, UUID)}
        example = self.examples.calls.get(reading.name)
        stranger = await self._caller(stage, reading)
        call = await example(stage, stranger) if example else Call()
        answer = await send(stage.client(stranger), reading, call)
        assert answer.status == 200, answer.body
        assert not [one for one in ids if one in answer.body.decode()]

    async def _caller(self, stage: Stage, route: APIRoute) -> Caller:
        """Somebody who may do it, in a fresh organization: an owner, or a platform's administrator where it must be."""
        role = "platform_admin" if permission_of(route).startswith("platform:") else EVERY_ROLE
        return await stage.caller(role)


def _unnamed(body: bytes, path: Mapping[str, Any]) -> bytes:
    for value in path.values():
        body = body.replace(str(value).encode(), b"<id>")
    return body
