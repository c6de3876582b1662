"""A workspace that drains at the doors: nothing new is begun there, and everything else may be done."""

from __future__ import annotations

from typing import Any

import pytest
from services.execution.tests.examples import an_undecided_step
from services.execution.tests.factories import EVALUATED, HTTP, PAIR, ids, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases import test_schedules as clock
from services.execution.tests.usecases.test_run_gates import GATE, answer, gated, in_force
from services.execution.tests.usecases.test_run_starts import start

from chassis.errors import ConflictError
from execution.usecases import orchestrations

pytestmark = pytest.mark.anyio
WHY = "The workspace 'main' is draining: it takes no new runs until its status is active again."


async def become(stage: Stage, place: Place, status: str) -> None:
    await stage.sql("update workspace set status = $2 where id = $1", place.workspace_id, status)


async def runs_there(stage: Stage, place: Place) -> int:
    return int((await stage.sql("select count(*) from run where workspace_id = $1", place.workspace_id))[0][0])


async def test_no_way_of_starting_a_run_is_open_until_it_is_active_again(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    editor = await make_agent(stage, place, "editor")
    async with stage.units.begin(place.caller()) as uow:
        await orchestrations.create_orchestration(
            uow, config_yaml=PAIR, agent_ids=ids(writer=agent, editor=editor), workspace=place.workspace_id,
            name="pair", fields={},
        )  # fmt: skip
    before = await start(stage, place.caller())
    await an_undecided_step(stage, str(before.id))
    client = stage.client(place.caller())
    topic = {"input": {"topic": "rivers"}}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/runs", {"agent": "writer", **topic}),
        ("/v1/runs", {"orchestration": "pair", "workspace": "main", **topic}),
        (f"/v1/runs/{before.id}/fork", {"from_step": "agent"}),
        (f"/v1/agents/{agent.id}/versions/1.0.0/evaluate", {}),
    ]
    await become(stage, place, "draining")
    for path, body in asked:
        refused = await client.post(path, body)
        assert (refused.status, refused.code, refused.json()["detail"]) == (409, "workspace_draining", WHY), path
    many = await client.post("/v1/runs/bulk-create", {"items": [{"agent": "writer", **topic}] * 2})
    assert [(each["status"], each["code"]) for each in many.json()["results"]] == [(409, "workspace_draining")] * 2
    assert await runs_there(stage, place) == 1
    await become(stage, place, "active")
    for path, body in asked:
        assert (await client.post(path, body)).status in (201, 202), path


async def test_asking_again_for_a_run_that_was_started_before_finds_it(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    run = await start(stage, caller, key="once")
    await become(stage, place, "draining")
    assert (await start(stage, caller, key="once")).id == run.id
    with pytest.raises(ConflictError):
        await start(stage, caller, key="twice")


async def test_a_tick_is_refused_and_the_clock_goes_on(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    schedule = await clock.make(stage, place.caller("developer"))
    await become(stage, place, "draining")
    await clock.overdue(stage, schedule, 0)
    (done,) = await clock.tick(stage, schedule)
    row = await clock.row_of(stage, schedule)
    assert (done.run_id, row["last_error_code"], row["last_error_detail"]) == (None, "workspace_draining", WHY)
    assert row["paused_at"] is None
    await become(stage, place, "active")
    await clock.overdue(stage, schedule, 0)
    (done,) = await clock.tick(stage, schedule)
    row = await clock.row_of(stage, schedule)
    assert (done.run_id, row["last_error_code"]) == (row["last_run_id"], "")


async def test_definitions_are_made_read_and_changed_there(stage: Stage, place: Place) -> None:
    await become(stage, place, "draining")
    client = stage.client(place.caller())
    made = await client.post("/v1/agents", {"name": "calm", "workspace": "main", "config_yaml": HTTP})
    assert made.status == 201, made.body
    unsaid = await client.post("/v1/agents", {"name": "alone", "config_yaml": HTTP})
    assert unsaid.json()["workspace_id"] == str(place.workspace_id)
    path = f"/v1/agents/{made.json()['id']}"
    assert (await client.patch(path, {"description": "x"}, headers={"If-Match": '"1"'})).status == 200
    version = await client.post(f"{path}/versions", {"semver": "1.1.0", "config_yaml": f"{HTTP}effects: read\n"})
    assert version.status == 201, version.body
    scheduled = await client.post("/v1/schedules", {"name": "nightly", "agent": "calm", "cron": "0 3 * * *"})
    assert scheduled.status == 201, scheduled.body


async def test_what_is_approved_while_it_drains_is_queued_and_waits(stage: Stage, place: Place) -> None:
    run, wanted = await gated(stage, place)
    await in_force(stage, place, GATE)
    await become(stage, place, "draining")
    row = await answer(stage, place, run, wanted, "approved")
    assert (row["status"], row["token"], row["error_code"]) == ("queued", 0, None)
    got = (await stage.client(place.caller()).get(f"/v1/runs/{run.id}")).json()
    assert got["hindrance"] == {"reason": "workspace draining"}


@pytest.mark.parametrize("begun", ["token = 1", "parent_run_id = gen_random_uuid()"])
async def test_only_what_has_not_begun_is_said_to_wait_for_it(stage: Stage, place: Place, begun: str) -> None:
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    await become(stage, place, "draining")
    client = stage.client(place.caller())

    async def hindrance() -> Any:
        explained = (await client.get(f"/v1/runs/{run.id}/explain")).json()["run"]["hindrance"]
        assert (await client.get(f"/v1/runs/{run.id}")).json()["hindrance"] == explained
        return explained

    assert await hindrance() == {"reason": "workspace draining"}
    await stage.sql(f"update run set {begun} where id = $1", run.id)
    assert await hindrance() == {"reason": "turn"}


async def test_what_is_queued_there_can_be_cancelled_and_killed(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    first, second = [await start(stage, place.caller()) for _ in range(2)]
    await become(stage, place, "draining")
    client = stage.client(place.caller())
    assert (await client.post(f"/v1/runs/{first.id}/cancel", {})).json()["status"] == "cancelled"
    engaged = {"scope": "workspace", "target_id": str(place.workspace_id)}
    assert (await client.post("/v1/kill-switches", engaged)).json()["stopped"] == 1
    assert (await client.get(f"/v1/runs/{second.id}")).json()["stop_reason"] == "killed"


async def test_what_is_still_open_there_can_be_counted(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    first, _ = [await start(stage, place.caller()) for _ in range(2)]
    await stage.sql("update run set status = 'waiting' where id = $1", first.id)
    client = stage.client(place.caller("operator"))
    for statuses in ("running,waiting,cancelling", "queued"):
        query = {"workspace_id": str(place.workspace_id), "status[in]": statuses}
        assert (await client.get("/v1/runs/count", query=query)).json()["count"] == 1


async def test_a_workspace_that_is_gone_is_no_draining_one(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    await become(stage, place, "deleted")
    refused = await stage.client(place.caller()).post("/v1/runs", {"agent": "writer", "input": {"topic": "x"}})
    assert refused.code == "workspace_gone"
