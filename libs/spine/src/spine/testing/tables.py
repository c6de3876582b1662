"""What every service's database must pass: read from the catalog of the migrated database itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.caller import Caller
from chassis.ids import new_id
from chassis.migration import role
from contracts.chassis import REFUSED
from spine.testing.stage import Stage

# Leaves of partitioned tables have neither policies nor grants: the service reaches them through their parent alone.
_TENANT_TABLES = """
select c.relname as name, c.relrowsecurity and c.relforcerowsecurity as is_forced,
  has_any_column_privilege($1, c.oid, 'select') as is_readable
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1"""
_LEADING = """
select distinct t.relname from pg_index i join pg_class t on t.oid = i.indrelid
join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0] where a.attname = 'organization_id'"""
_POLICIES = """
select tablename, policyname, permissive, roles::text[] as roles, cmd, coalesce(qual, '') as qual,
  coalesce(with_check, '') as checked from pg_policies where schemaname = 'public'"""
_OPEN_LEAVES = """
select c.relname from pg_class c where c.relispartition and c.relkind = 'r'
and (has_table_privilege($1, c.oid, 'select') or has_table_privilege($1, c.oid, 'insert')
  or has_table_privilege($1, c.oid, 'update') or has_table_privilege($1, c.oid, 'delete'))"""
_POWERS = """
select rolname, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication as is_mighty,
  (select count(*) from pg_class where relowner = r.oid and relnamespace = 'public'::regnamespace) as owned,
  (select count(*) from pg_auth_members where member = r.oid) as memberships
from pg_roles r where rolname = $1 or rolname like $1 || '\\_%' order by 1"""
_ONE = re.compile(r"organization_id = \(?NULLIF\(current_setting\('app.organization_id'", re.IGNORECASE)
_MANY = re.compile(r"organization_id = ANY \(\(?NULLIF\(current_setting\('app.organization_ids'", re.IGNORECASE)
WIRES = frozenset(("outbox", "inbox", "fact_log", "organization_head", "parked_fact", "organization_rules"))
"""The chassis' own tables, read by id or by the relay alone."""


class TableCoverage:
    """Every table of a service: whose rows who may see, and whether the migrations made what the code believes."""

    metadata: ClassVar[MetaData]
    leads_with_more: ClassVar[Mapping[str, str]] = {}
    """Tables without an index that leads with the organization, each with the reason."""
    organization_columns: ClassVar[Mapping[str, str]] = {}
    """Tables whose organization is in another column than `organization_id`: its own table, by its id."""

    @pytest.mark.anyio
    async def test_rows_of_organizations_are_forced_apart(self, stage: Stage) -> None:
        """Every table with an organization has forced row security."""
        assert [table["name"] for table in await _tenant_tables(stage) if not table["is_forced"]] == []

    @pytest.mark.anyio
    async def test_policies_name_the_organization(self, stage: Stage) -> None:
        """The doors' role sees one organization, the batch role those of its batch; no policy is for everybody."""
        doors, batch = role(stage.service.name), role(stage.service.name, "batch")
        wrong = []
        for policy in await stage.database.sql(_POLICIES):
            wanted = {doors: _ONE, batch: _MANY}
            for name in policy["roles"]:
                condition = " ".join(filter(None, (policy["qual"], policy["checked"])))
                column = self.organization_columns.get(policy["tablename"], "organization_id")
                condition = re.sub(rf"\b{column} =", "organization_id =", condition)
                open_to_all = name == "public"
                if open_to_all or (name in wanted and not wanted[name].search(condition)):
                    wrong.append((policy["tablename"], policy["policyname"]))
        assert wrong == []

    @pytest.mark.anyio
    async def test_an_index_leads_with_the_organization(self, stage: Stage) -> None:
        """What is listed per organization is found per organization."""
        leading = {row["relname"] for row in await stage.database.sql(_LEADING)}
        tables = {table["name"] for table in await _tenant_tables(stage) if table["is_readable"]}
        assert tables - leading - WIRES - self.leads_with_more.keys() == set()

    @pytest.mark.anyio
    async def test_no_role_is_mighty(self, stage: Stage) -> None:
        """No role passes row security by, and none but the owner owns a table."""
        roles = await stage.database.sql(_POWERS, role(stage.service.name))
        assert len(roles) >= 5
        assert [row["rolname"] for row in roles if row["is_mighty"] or row["memberships"]] == []
        owners = [row["rolname"] for row in roles if row["owned"]]
        assert owners == [role(stage.service.name, "owner")]

    @pytest.mark.anyio
    async def test_leaves_are_closed(self, stage: Stage) -> None:
        """Partitions carry no row security of their own, so the doors' role may not touch them."""
        leaves = await stage.database.sql(_OPEN_LEAVES, role(stage.service.name))
        assert [row["relname"] for row in leaves] == []

    @pytest.mark.anyio
    async def test_raw_sql_sees_one_organization_or_nothing(self, stage: Stage) -> None:
        """Even past the unit of work: without an organization no row, with one its rows alone."""
        ours, theirs = await stage.caller(), await stage.caller()
        for caller in (ours, theirs):
            await self.fill(stage, caller)
        seen = 0
        async with stage.database.connect() as connection:
            for table in await _tenant_tables(stage):
                if not table["is_readable"]:
                    continue
                assert await _organizations(connection, table["name"], "") == set()
                found = await _organizations(connection, table["name"], str(ours.organization_id))
                assert found <= {ours.organization_id}
                assert await _organizations(connection, table["name"], str(new_id())) == set()
                seen += len(found)
        assert seen, "no table held a row: `fill` must make some"

    @pytest.mark.anyio
    async def test_rows_of_others_cannot_be_made(self, stage: Stage) -> None:
        """A fact in another organization's name is refused by the database, whatever the code thought."""
        ours, theirs = await stage.organization(), await stage.organization()
        async with stage.database.connect() as connection, connection.transaction():
            await connection.execute("select set_config('app.organization_id', $1, true)", str(ours))
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(
                    "insert into outbox (id, type, organization_id, body) values ($1, $2, $3, '')",
                    new_id(), REFUSED[stage.service.name].type, theirs,
                )  # fmt: skip

    @pytest.mark.anyio
    async def test_the_migrations_make_what_the_rows_say(self, stage: Stage) -> None:
        """Columns, their types and nullability, keys and indexes of the code and of the database are the same."""
        assert await schema_differences(stage.database.url("owner"), self.metadata) == []

    async def fill(self, stage: Stage, caller: Caller) -> None:
        """Make rows of this caller's organization; a service overrides it with its factories."""


async def schema_differences(owner_url: str, metadata: MetaData) -> list[str]:
    """How a migrated database differs from the rows in code; tables only the database has are its own business."""
    engine = create_async_engine(owner_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_differences, metadata)
    finally:
        await engine.dispose()


def _differences(connection: Connection, metadata: MetaData) -> list[str]:
    known = frozenset(metadata.tables)

    def is_compared(one: Any, _: str | None, kind: str, is_reflected: bool, __: Any) -> bool:  # noqa: FBT001  (alembic's own)
        return not (is_reflected and kind == "table" and one.name not in known)

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_object": is_compared, "target_metadata": metadata}
    )
    return [str(difference) for difference in compare_metadata(context, metadata)]


async def _tenant_tables(stage: Stage) -> list[asyncpg.Record]:
    return await stage.database.sql(_TENANT_TABLES, role(stage.service.name))


async def _organizations(connection: asyncpg.Connection[asyncpg.Record], table: str, organization_id: str) -> set[Any]:
    async with connection.transaction():
        await connection.execute("select set_config('app.organization_id', $1, true)", organization_id)
        rows = await connection.fetch(f'select distinct organization_id from "{table}"')  # noqa: S608
        return {row["organization_id"] for row in rows}
