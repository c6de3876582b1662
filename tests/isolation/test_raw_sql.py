"""Past all code: what the roles of the six services see in their databases by plain SQL, with rows of two organizations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.town import Town

from chassis.ids import new_id
from chassis.migration import role
from contracts.catalog import SERVICES
from remit_local.platform.deployment import INGEST

UNFORCED: Mapping[tuple[str, str], str] = {}
"""Tables with an organization that are outside forced row security, by service and name, each with the reason."""
RELAYED = frozenset({"outbox", "fact_log", "organization_head"})
"""What a relay reads of all organizations: the facts on their way out, and their numbers; no table of the service."""

_TENANT_TABLES = """
select c.relname as name, c.relrowsecurity and c.relforcerowsecurity as is_forced, c.relispartition as is_leaf,
  (select coalesce(array_agg(distinct grantee::text), '{}') from information_schema.column_privileges p
   where p.table_schema = 'public' and p.table_name = c.relname and p.privilege_type <> 'INSERT'
     and p.grantee <> pg_get_userbyid(c.relowner)) as readers
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') order by 1"""
_ROLES = "select rolname, rolsuper or rolbypassrls as is_mighty from pg_roles where rolname like 'remit%' order by 1"
_READABLE = """
select c.relname from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
  and has_column_privilege(c.oid, a.attnum, 'select') order by 1"""


@asynccontextmanager
async def _as(town: Town, service: str, suffix: str = "") -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(town.platform.installation.database_url(service, suffix))
    try:
        yield connection
    finally:
        await connection.close()


async def _seen(connection: asyncpg.Connection[Any], setting: str, value: str) -> dict[str, set[UUID]]:
    """Whose rows each readable table shows with this setting."""
    found = {}
    async with connection.transaction():
        await connection.execute("select set_config($1, $2, true)", setting, value)
        for (table,) in await connection.fetch(_READABLE):
            rows = await connection.fetch(f'select distinct organization_id from "{table}"')
            found[table] = {row[0] for row in rows}
    return found


@pytest.mark.anyio
@pytest.mark.seconds(120)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_services_role_sees_one_organization_or_nothing(
    town: Town, things: dict[str, str], service: str
) -> None:
    north, south = UUID(town.north.id), UUID(town.south.id)
    async with _as(town, service) as connection:
        nothing = await _seen(connection, "app.organization_id", "")
        assert nothing
        assert not set().union(*nothing.values())
        shown = {
            one: set[UUID]().union(*(await _seen(connection, "app.organization_id", str(one))).values())
            for one in (north, south, new_id())
        }
    assert shown.pop(north) == {north}
    assert shown.pop(south) == {south}
    assert list(shown.values()) == [set()]


@pytest.mark.anyio
@pytest.mark.seconds(120)
@pytest.mark.parametrize("service", SERVICES)
async def test_the_batch_role_sees_the_organizations_of_its_batch(
    town: Town, things: dict[str, str], service: str
) -> None:
    north = UUID(town.north.id)
    async with _as(town, service, "batch") as connection:
        nothing = await _seen(connection, "app.organization_ids", "")
        assert not set().union(*nothing.values())
        # The doors' setting opens nothing to it.
        assert not set().union(*(await _seen(connection, "app.organization_id", str(north))).values())
        shown = await _seen(connection, "app.organization_ids", f"{{{north},{new_id()}}}")
        assert set[UUID]().union(*shown.values()) == {north}


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_a_relay_reads_facts_and_no_table_of_its_service(town: Town) -> None:
    for service in SERVICES:
        async with _as(town, service, "relay") as connection:
            assert {table for (table,) in await connection.fetch(_READABLE)} == RELAYED, service


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_no_role_enters_another_services_database(town: Town) -> None:
    installation = town.platform.installation
    wrong = []
    for service in SERVICES:
        for other in SERVICES:
            if service == other:
                continue
            url = installation.database_url(service).rpartition("/")[0] + f"/{role(other)}"
            try:
                await (await asyncpg.connect(url)).close()
            except asyncpg.InsufficientPrivilegeError:
                continue
            wrong.append((service, other))
    assert wrong == []


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_no_table_with_an_organization_is_outside_forced_row_security(town: Town) -> None:
    outside, open_leaves, seen = set(), [], 0
    for service in SERVICES:
        for table in await town.platform.query(service, _TENANT_TABLES):
            seen += 1
            if table["is_leaf"]:
                # A partition has no policy of its own, so nobody but its owner may look into it past its parent.
                open_leaves += [(service, table["name"], reader) for reader in table["readers"]]
            elif not table["is_forced"]:
                outside.add((service, table["name"]))
    assert outside == UNFORCED.keys()
    assert open_leaves == []
    assert seen > 10 * len(SERVICES)


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_no_role_is_above_row_security(town: Town) -> None:
    roles = await town.platform.query("identity", _ROLES)
    assert [row["rolname"] for row in roles if row["is_mighty"]] == []
    wanted = {role(service, suffix) for service in SERVICES for suffix in ("", "owner", "batch", "relay", "sweep")}
    assert {row["rolname"] for row in roles} == wanted | {INGEST}


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_nobody_writes_in_anothers_name(town: Town) -> None:
    """Neither a fact nor a row: the database refuses what a service's role says in another organization's name."""
    for service in SERVICES:
        async with _as(town, service) as connection, connection.transaction():
            await connection.execute("select set_config('app.organization_id', $1, true)", town.north.id)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(
                    "insert into outbox (id, type, organization_id, body) values ($1, 'x', $2, '')",
                    new_id(),
                    UUID(town.south.id),
                )
