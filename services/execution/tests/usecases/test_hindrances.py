"""What a queued run is said to wait for, through the real doors."""

from __future__ import annotations

from typing import Any

import pytest
from services.execution.tests.factories import HTTP, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import start

from execution.tables.runs import Run

pytestmark = pytest.mark.anyio

BY_KEY = "flow: {concurrency: {limit: 1, key: input.topic}}\n"


async def begun(stage: Stage, place: Place, flow: str, value: str = "tea") -> Run:
    await make_agent(stage, place, "flowing", HTTP + flow)
    return await start(stage, place.caller(), reference="flowing", input={"topic": value})


async def told(stage: Stage, place: Place, run: Run, role: str = "org_admin") -> Any:
    """What the route of one run says, and the one that explains it."""
    client = stage.client(place.caller(role))
    got = (await client.get(f"/v1/runs/{run.id}")).json()
    explained = (await client.get(f"/v1/runs/{run.id}/explain")).json()["run"]
    assert got["hindrance"] == explained["hindrance"]
    return got["hindrance"]


async def under_way(stage: Stage, run: Run, status: str = "running") -> None:
    await stage.sql(
        "update run set status = $2, flow_since = now(), dispatched_at = now() where id = $1", run.id, status
    )


async def test_a_run_waits_for_its_turn_then_for_a_worker_then_for_nothing(stage: Stage, place: Place) -> None:
    run = await begun(stage, place, "")
    assert await told(stage, place, run) == {"reason": "turn"}
    await stage.sql("update run set dispatched_at = now() where id = $1", run.id)
    assert await told(stage, place, run) == {"reason": "worker"}
    await stage.sql("update run set status = 'running' where id = $1", run.id)
    assert await told(stage, place, run) is None


async def test_a_full_group_is_named_by_its_key(stage: Stage, place: Place) -> None:
    first = await begun(stage, place, BY_KEY)
    second, other = [
        await start(stage, place.caller(), reference="flowing", input={"topic": topic}) for topic in ("tea", "water")
    ]
    await under_way(stage, first, "waiting")  # it keeps its place
    expected = {"reason": "concurrency", "key": "tea", "limit": 1, "under_way": 1}
    assert await told(stage, place, second) == expected
    assert await told(stage, place, other) == {"reason": "turn"}
    del expected["key"]  # it is a part of the input
    assert await told(stage, place, second, "viewer") == expected
    await stage.sql("update run set status = 'completed' where id = $1", first.id)
    assert await told(stage, place, second) == {"reason": "turn"}


async def test_a_rate_says_when_the_next_may_start(stage: Stage, place: Place) -> None:
    run = await begun(stage, place, "flow: {rate: {limit: 1, seconds: 3600}}\n")
    await stage.sql(
        """insert into flow_pace (organization_id, pace_group, arrival_micros, spacing_micros, burst)
        select organization_id, pace_group, (extract(epoch from now()) * 1000000)::bigint + 60000000, 3600000000, 1
        from run where id = $1""", run.id,
    )  # fmt: skip
    found = await told(stage, place, run)
    assert found.pop("until")
    assert found == {"reason": "rate", "limit": 1, "seconds": 3600}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "update workspace set max_concurrent_executions = 0 where id = $1",
            {"reason": "workspace limit", "limit": 0, "under_way": 0},
        ),
        ("update workspace set status = 'suspended' where id = $1", {"reason": "workspace suspended"}),
        (
            """insert into kill_switch (id, organization_id, scope, target_id, reason, created_by, created_at,
            updated_at, version) select gen_random_uuid(), organization_id, 'workspace', id, '', 'test', now(), now(), 1
            from workspace where id = $1""",
            {"reason": "kill switch"},
        ),
    ],
)
async def test_what_stops_a_place_is_said(stage: Stage, place: Place, statement: str, expected: Any) -> None:
    run = await begun(stage, place, "")
    await stage.sql(statement, place.workspace_id)
    assert await told(stage, place, run) == expected


async def test_an_input_without_the_key_is_refused_and_leaves_no_run(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, "flowing", HTTP + BY_KEY)
    answer = await stage.client(place.caller()).post("/v1/runs", {"agent": "flowing", "input": {"other": 1}})
    assert (answer.status, answer.json()["code"]) == (422, "no_flow_key")
    assert await stage.sql("select id from run where organization_id = $1", place.organization_id) == []
