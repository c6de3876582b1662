"""Lists of runs: however many are stored, a list reads about as many as it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from services.execution.tests.stage import Place, Stage

from chassis.ids import new_id
from execution.usecases.runs import RUNS
from resources.filters import Condition

pytestmark = pytest.mark.anyio
FILL = """insert into run (retention_class, id, organization_id, workspace_id, execution_type, agent_id, version_id, semver,
  config_digest, caller, created_by, triggered_by, trigger_type, decision_id, decision, status, root_run_id, queued_at,
  created_at)
select 90, ($1::uuid[])[n], $2::uuid, $3::uuid, 'agent', $3::uuid, $3::uuid, '1.0.0', '', '{}', 'b', 'b', 'api', $3::uuid,
  '{}', 'completed', $3::uuid, now(), now() - n * interval '1 ms' from generate_series(1, 4000) n"""


def indexes(plan: dict[str, Any]) -> set[str]:
    own = {plan["Index Name"]} if plan.get("Relation Name", "").startswith("run_90") and "Index Name" in plan else set()
    return own.union(*(indexes(below) for below in plan.get("Plans", ())))


@pytest.mark.parametrize(
    ("operator", "value", "index"),
    [
        ("eq", "failed", "created_at_id_idx1"),
        ("in", ["cancelled", "timed_out"], "created_at_id_idx1"),
        ("eq", "running", "status"),
        ("in", ["queued", "waiting"], "status"),
    ],
)
async def test_few_of_many_are_found_by_an_index_also_by_a_plan_for_any_value(
    stage: Stage, place: Place, operator: str, value: Any, index: str
) -> None:
    ids = [new_id() for _ in range(4000)]
    await stage.sql(FILL, ids, place.organization_id, place.workspace_id)
    await stage.sql("analyze run")
    query = replace(RUNS.all_of(50), filters=(Condition(RUNS.columns["status"], operator, value),))
    async with stage.units.begin(place.caller()) as uow:
        where = RUNS.where(uow, query, {"organization_id": place.organization_id})
    async with stage.database.connect() as connection:
        await connection.execute("set plan_cache_mode = force_generic_plan")
        sql = f"explain (format json) select id from run{where.sql()}{query.order.sql()} limit 51"
        plan = json.loads(await connection.fetchval(sql, *where.values))[0]["Plan"]
    used = indexes(plan)
    assert used
    assert all(index in name for name in used), used


async def test_a_status_that_no_run_can_have_is_refused_and_not_looked_for(stage: Stage, place: Place) -> None:
    answer = await stage.client(place.caller()).get("/v1/runs", query={"status": "done"})
    assert answer.status == 422
    assert "is one of: scheduled, queued, running, waiting" in answer.json()["errors"][0]["message"]
