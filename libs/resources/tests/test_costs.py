"""A list costs the same however long it is: the plans say so, not a clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from libs.resources.tests.crates import CRATES, list_crates_of

from chassis.caller import Caller
from chassis.uow import UnitOfWork
from resources.cursors import read_order
from resources.listing import ListQuery
from spine.testing import Stage

pytestmark = pytest.mark.anyio
ROWS = 10_000
FILL = """insert into crate (id, organization_id, name, weight, created_by, created_at, updated_at, version)
select gen_random_uuid(), $1, 'crate ' || n, n % 100, 'me', now() - n * interval '1 second', now(), 1
from generate_series(1, $2::integer) n"""


@pytest.fixture(scope="module")
async def caller(stage: Stage) -> Caller:
    for _ in range(3):
        await stage.database.sql(FILL, await stage.organization(), ROWS)
    caller = await stage.caller()
    await stage.database.sql(FILL, caller.organization_id, ROWS)
    await stage.database.sql("analyze crate")
    return caller


class Explaining(UnitOfWork):
    """Keeps the plan of the last statement instead of its rows."""

    plan: Mapping[str, Any]

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        rows = await super().fetch(f"explain (analyze, buffers, format json) {sql}", *values)
        self.plan = rows[0][0][0]["Plan"]
        return []


async def plan_of(stage: Stage, caller: Caller, query: ListQuery) -> list[Mapping[str, Any]]:
    async with stage.begin(caller) as uow:
        explaining = Explaining(uow._units, uow._session, uow._raw, caller, uow.permit)
        await list_crates_of(explaining, query)
    nodes = [explaining.plan]
    for node in nodes:
        nodes += node.get("Plans", [])
    return nodes


def touched(nodes: list[Mapping[str, Any]]) -> int:
    return int(nodes[0]["Shared Hit Blocks"]) + int(nodes[0]["Shared Read Blocks"])


@pytest.mark.parametrize(
    ("sort", "index"),
    [
        ("-created_at", "crate_organization_id_created_at_id_idx"),
        ("created_at", "crate_organization_id_created_at_id_idx"),
        ("weight", "crate_organization_id_weight_id_idx"),
        ("-weight", "crate_organization_id_weight_id_idx"),
    ],
)
async def test_the_last_page_is_as_near_as_the_first(stage: Stage, caller: Caller, sort: str, index: str) -> None:
    order = read_order(sort, CRATES.sorts, CRATES.columns["id"])
    names = [column.name for column, _ in order.columns]
    directions = ", ".join(
        f"{name} {'desc' if down else 'asc'}" for name, (_, down) in zip(names, order.columns, strict=True)
    )
    deep = await stage.database.sql(
        f"select {', '.join(names)} from crate where organization_id = $1 order by {directions} offset $2 limit 1",
        caller.organization_id,
        ROWS - 100,
    )
    first = await plan_of(stage, caller, ListQuery(("id", "name"), order, 20))
    last = await plan_of(stage, caller, ListQuery(("id", "name"), order, 20, after=tuple(deep[0])))
    for nodes in (first, last):
        assert {node["Node Type"] for node in nodes} <= {"Limit", "Index Scan", "Index Only Scan"}
        assert {node["Index Name"] for node in nodes if "Index Name" in node} == {index}
        assert nodes[0]["Actual Rows"] == 21
        assert sum(node.get("Rows Removed by Filter", 0) for node in nodes) == 0
    assert touched(last) <= touched(first) + 10


async def test_the_deep_page_is_found_by_the_whole_key(stage: Stage, caller: Caller) -> None:
    middle = await stage.database.sql(
        "select created_at, id from crate where organization_id = $1 order by created_at desc, id desc offset 5000 limit 1",
        caller.organization_id,
    )
    async with stage.begin(caller) as uow:
        query = ListQuery(("id",), CRATES.default_order, 20, after=tuple(middle[0]))
        ids = [row["id"] for row in (await list_crates_of(uow, query)).rows]
    expected = await stage.database.sql(
        "select id from crate where organization_id = $1 order by created_at desc, id desc offset 5001 limit 20",
        caller.organization_id,
    )
    assert [UUID(str(one)) for one in ids] == [row["id"] for row in expected]
