from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from services.audit.tests.factories import NOON, Producer, completed, store
from sqlalchemy.dialects import postgresql

from audit.jobs.partitions import make_months
from audit.usecases.entries import EntryFilter, select_entries
from chassis.ids import new_id
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EntryFilter(), "organization_id_occurred_at"),
        (EntryFilter(event_type="execution.run.failed.v1"), "organization_id_occurred_at"),
        (EntryFilter(first_time=NOON), "organization_id_occurred_at"),
        (EntryFilter(run_id=new_id()), "organization_id_run_id"),
        (EntryFilter(resource_id="x"), "organization_id_resource_id"),
    ],
)
@pytest.mark.parametrize("ascending", [True, False])
async def test_lists_walk_an_index_of_the_organization_and_sort_nothing(
    stage: Stage,
    wanted: EntryFilter,
    index: str,
    ascending: bool,  # noqa: FBT001
) -> None:
    producer, organizations = Producer(), [await stage.organization() for _ in range(4)]
    await store(stage, [producer.raw(organizations[number % 4], completed()) for number in range(2000)])
    await stage.database.sql("analyze entry")
    statement = select_entries(organizations[0], wanted, ascending=ascending, limit=20, after=(NOON, new_id()))
    sql = str(statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
    async with stage.database.connect() as connection:
        await connection.execute("select set_config('app.organization_id', $1, false)", str(organizations[0]))
        await connection.execute("set enable_seqscan = off")
        plan = json.loads(await connection.fetchval("explain (format json) " + sql))[0]["Plan"]
        rows = await connection.fetch("select relname from pg_class where relname like 'entry%' and reltuples > 0")
    filled = {row["relname"] for row in rows}  # of a partition that holds nothing, any index is as good
    found = [node for node in nodes(plan) if node.get("Relation Name") in filled]
    assert not [node for node in found if node["Node Type"] == "Sort"]
    used = {node["Index Name"] for node in found if "Index Name" in node}
    assert used
    assert all(index in name for name in used), used


async def test_partitions_are_made_ahead_and_again_makes_none(stage: Stage) -> None:
    count = "select count(*) from pg_class where relname ~ '^entry_[0-9]+_[0-9]{6}$'"
    assert await stage.database.value(count) == 16
    await make_months(stage.running)
    assert await stage.database.value(count) == 16
    assert await stage.database.value("select entry_make_months(4)") == 8
