"""What every service must pass, for identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
from fastapi.routing import APIRoute
from services.identity.tests.examples import EXAMPLES, a_key, a_user, a_workspace
from services.identity.tests.stage import Home, Stage

import spine.testing.stage
from chassis.caller import Caller
from identity.main import build
from identity.settings import Settings
from identity.tables import Row
from spine.testing.client import Answer
from spine.testing.coverage import DoorCoverage, routes_of, send, without_ids
from spine.testing.examples import Call, Examples
from spine.testing.stage import unstarted
from spine.testing.tables import TableCoverage

PLATFORM = "/v1/platform/"
LISTS_ALL = "list_organizations"


def is_platforms(route: APIRoute) -> bool:
    """Whether a route is for the operator alone, who sees every organization's row."""
    return route.path.startswith(PLATFORM) or route.name == "create_organization"


class TestDoors(DoorCoverage):
    service = unstarted(build, Settings, "identity")
    examples: ClassVar[Examples] = EXAMPLES

    async def _caller(self, stage: spine.testing.stage.Stage, route: APIRoute) -> Caller:
        assert isinstance(stage, Stage)
        return stage.platform_admin() if is_platforms(route) else (await stage.home()).owner

    @pytest.mark.anyio
    async def test_a_stranger_learns_nothing(self, stage: spine.testing.stage.Stage, named: APIRoute) -> None:
        """The platform is a stranger to no organization; to its routes, everybody else is one."""
        if not is_platforms(named):
            await super().test_a_stranger_learns_nothing(stage, named)
            return
        assert isinstance(stage, Stage)
        call = await self.examples.calls[named.name](stage, stage.platform_admin())
        owner = (await stage.home()).owner
        answers = [await send(stage.client(owner), named, one) for one in (call, Call())]
        assert [(answer.status, answer.code) for answer in answers] == [(403, "missing_permission")] * 2
        assert without_ids(answers[0].body) == without_ids(answers[1].body)

    @pytest.mark.anyio
    async def test_lists_show_one_organization(self, stage: spine.testing.stage.Stage, reading: APIRoute) -> None:
        if reading.name != LISTS_ALL:
            await super().test_lists_show_one_organization(stage, reading)


@pytest.mark.anyio
@pytest.mark.parametrize("role", ["org_owner", "platform_operator", "platform_auditor"])
async def test_only_a_platform_admin_acts_on_organizations(stage: Stage, home: Home, role: str) -> None:
    """An owner may end its own organization, which must not reach the platform's routes over all."""
    client = stage.client(stage.platform_admin(role))
    for route in routes_of(TestDoors.service):
        if is_platforms(route) and route.methods != {"GET"}:
            answer: Answer = await send(client, route, Call({"organization_id": home.id}))
            assert (answer.status, answer.code) == (403, "missing_permission"), route.name


class TestTables(TableCoverage):
    metadata = Row.metadata
    organization_columns: ClassVar[Mapping[str, str]] = {"organization": "id"}

    async def fill(self, stage: spine.testing.stage.Stage, caller: Caller) -> None:
        assert isinstance(stage, Stage)
        home = await stage.home()
        await a_user(stage, home.owner)
        await a_workspace(stage, home.owner)
        await a_key(stage, home.owner)
        await stage.database.sql(
            "insert into subscription_limit (organization_id, max_users, version) values ($1, 5, 1)",
            caller.organization_id,
        )


@pytest.mark.anyio
async def test_an_organizations_row_is_its_own(stage: Stage) -> None:
    """The organization table goes by its own id: another organization's transaction sees none of it."""
    ours, theirs = await stage.home(), await stage.home()
    async with stage.database.connect() as connection, connection.transaction():
        assert await connection.fetch("select id from organization") == []
        await connection.execute("select set_config('app.organization_id', $1, true)", str(ours.id))
        assert [row["id"] for row in await connection.fetch("select id from organization")] == [ours.id]
        changed = await connection.execute("update organization set name = 'x' where id = $1", theirs.id)
        assert changed == "UPDATE 0"
