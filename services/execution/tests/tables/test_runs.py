"""What only the database shows: plans, partitions, rights."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from services.execution.tests.factories import make_agent, make_month
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import start

from chassis.clock import utc_now
from chassis.ids import new_id

pytestmark = pytest.mark.anyio


async def _plan(stage: Stage, place: Place, statement: str, *values: Any) -> str:
    async with stage.database.connect() as connection, connection.transaction():
        await connection.execute("set local enable_seqscan = off")
        await connection.execute("select set_config('app.organization_id', $1, true)", str(place.organization_id))
        return str(await connection.fetchval(f"explain (format json, analyze, buffers) {statement}", *values))


def _nodes(plan: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    todo = [orjson.loads(plan)[0]["Plan"]]
    while todo:
        node = todo.pop()
        found.append(node)
        todo.extend(node.get("Plans", ()))
    return found


async def test_the_newest_runs_come_from_the_index_unsorted(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    await start(stage, place.caller())
    plan = await _plan(stage, place, "select id, status from run order by created_at desc, id desc limit 20")
    nodes = _nodes(plan)
    assert not [node for node in nodes if node["Node Type"] == "Sort"]
    read = [node for node in nodes if node["Node Type"].startswith("Index")]
    assert read
    assert all("organization_id" in node["Index Cond"] for node in read)


async def _copy_run(stage: Stage, run_id: UUID, count: int) -> None:
    """More runs like this one, with ids of the same month."""
    ids = [new_id() for _ in range(count)]
    await stage.sql(
        """insert into run select (jsonb_populate_record(run, jsonb_build_object('id', more))).* from run
        cross join unnest($2::uuid[]) as more where run.id = $1""",
        run_id, ids,
    )  # fmt: skip
    await stage.sql("analyze run")


async def test_finding_a_run_by_its_id_costs_the_same_however_many_there_are(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    await _copy_run(stage, run.id, 5_000)
    plan = await _plan(stage, place, f"select id from run where id = '{run.id}'")
    scans = [node for node in _nodes(plan) if node["Node Type"].startswith("Index")]
    assert len(scans) == 4  # one partition per class
    assert sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in scans) < 30


async def test_agents_by_workspace_and_status_use_their_index(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await stage.sql(
        """insert into agent select (jsonb_populate_record(agent, jsonb_build_object('id', gen_random_uuid(),
        'name', 'a' || n, 'workspace_id', md5((n % 100)::text)::uuid))).* from agent, generate_series(1, 3000) n
        where id = $1""",
        agent.id,
    )
    await stage.sql("analyze agent")
    statement = f"select id from agent where workspace_id = '{place.workspace_id}' and status = 'active'"
    plan = await _plan(stage, place, f"{statement} and organization_id = '{place.organization_id}'")
    assert "agent_organization_id_workspace_id_status_idx" in plan


async def test_months_are_made_ahead_and_once(stage: Stage) -> None:
    before = await stage.sql("select count(*) from pg_class where relname ~ '^(run|step)_[0-9]+_[0-9]{6}$'")
    assert before[0][0] == 2 * 4 * 4
    async with stage.database.connect("sweep") as connection:
        assert await connection.fetchval("select run_make_months(3)") == 8
        assert await connection.fetchval("select run_make_months(3)") == 0


async def test_old_months_are_dropped_unless_a_run_in_them_is_open(stage: Stage, place: Place) -> None:
    await make_month(stage.database, date(2020, 1, 1))
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    await stage.sql("update run set id = first_id_at('2020-01-15 00:00+00') where id = $1", run.id)
    async with stage.database.connect("sweep") as connection:
        assert await connection.fetchval("select run_drop_months()") == 0
        await stage.sql("update run set status = 'completed' where id = first_id_at('2020-01-15 00:00+00')")
        assert await connection.fetchval("select run_drop_months()") == 1
        assert await connection.fetchval("select run_drop_months()") == 0
    left = await stage.sql("select relname from pg_class where relname ~ '202001$' and relkind = 'r'")
    assert left == []


async def test_bounds_of_months_are_those_of_ids(stage: Stage) -> None:
    now = utc_now()
    rows = await stage.sql(
        "select first_id_at($1) <= $2 as low, first_id_at($1 + interval '1 hour') > $2 as high", now, new_id()
    )
    assert tuple(rows[0]) == (True, True)


STEP_OF_NO_FORK = """insert into step (organization_id, retention_class, run_id, node, iteration, attempt, id, step_number,
kind, status, started_at, token) select id, 30, first_id_at(now()), 'a', 0, 1, id, 1, 'agent', 'completed', now(), 1
from (select gen_random_uuid() as id) made, lateral set_config('app.organization_id', made.id::text, true)"""


@pytest.mark.parametrize(
    ("suffix", "statement"),
    [
        ("", "update run set output = '{}'"),
        ("", "update run set input = '{}'"),
        ("", "delete from run"),
        ("", STEP_OF_NO_FORK),
        ("", "update agent_version set config = '{}'"),
        ("", "delete from agent"),
        ("batch", "delete from run"),
        ("batch", "update agent set name = 'x'"),
        ("batch", "delete from model_credential"),
        ("sweep", "select input from run"),
        ("sweep", "update run set status = 'failed'"),
        ("sweep", "select * from model_credential"),
        ("relay", "select id from run"),
    ],
)
async def test_each_role_may_only_what_it_must(stage: Stage, suffix: str, statement: str) -> None:
    async with stage.database.connect(suffix) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_the_sweeper_sees_every_organizations_open_runs(stage: Stage) -> None:
    organizations = set()
    for _ in range(2):
        place = await stage.place()
        await make_agent(stage, place)
        await start(stage, place.caller())
        organizations.add(place.organization_id)
    async with stage.database.connect("sweep") as connection:
        rows = await connection.fetch("select distinct organization_id from run where status = 'queued'")
    assert organizations <= {row["organization_id"] for row in rows}


async def test_keys_of_yesterday_are_purged(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    await start(stage, place.caller(), key="k")
    await stage.sql(
        "update idempotency_key set expires_at = now() - interval '1 s' where organization_id = $1",
        place.organization_id,
    )
    async with stage.database.connect("sweep") as connection:
        assert await connection.fetchval("select idempotency_key_purge()") >= 1
    assert await stage.sql("select 1 from idempotency_key where organization_id = $1", place.organization_id) == []
