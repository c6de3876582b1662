from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from services.execution.tests.factories import WRITER, make_agent
from services.execution.tests.stage import Place, Stage

from chassis.caller import Caller
from chassis.ids import new_id

pytestmark = pytest.mark.anyio
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY = {"agent": "writer", "input": {"topic": "rivers"}}


async def start(stage: Stage, caller: Caller, **headers: str) -> dict[str, Any]:
    answer = await stage.client(caller).post("/v1/runs", BODY, headers=headers)
    assert answer.status == 202, answer.body
    run: dict[str, Any] = answer.json()
    return run


async def finish(stage: Stage, run_id: str, status: str = "completed") -> None:
    """End a run as the engine's statement does."""
    await stage.sql(
        """update run set status = $2, started_at = queued_at + interval '1 second', output = '{"text": "done"}',
        completed_at = queued_at + interval '3 seconds', step_count = 1, last_step = 1, token = 1 where id = $1::uuid""",
        run_id,
        status,
    )


async def runs_of(stage: Stage, place: Place, number: int) -> list[Any]:
    """The organization's runs, once there are so many."""
    for _ in range(1000):
        rows = await stage.sql("select id from run where organization_id = $1", place.organization_id)
        if len(rows) == number:
            return rows
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {number} runs")


async def add_step(stage: Stage, run: dict[str, Any], number: int, node: str, **fields: Any) -> None:
    row = {
        "retention_class": 30, "run_id": run["id"], "node": node, "iteration": 0, "attempt": 1, "id": new_id(),
        "organization_id": run["organization_id"], "step_number": number, "kind": "agent", "status": "completed",
        "token": 1, "provider": "embedded", "model_name": "m", "price_version": "1", "input_tokens": 10,
        "output_tokens": 5, "cost_usd_micros": 7, "output": b'{"text": "secret"}', **fields,
    }  # fmt: skip
    slots = [f"${at}::uuid" if name.endswith("id") else f"${at}" for at, name in enumerate(row, 1)]
    await stage.sql(
        f"""insert into step ({", ".join(row)}, started_at, completed_at)
        select {", ".join(slots)}, now() + make_interval(secs => {number}), now() + make_interval(secs => {number + 1})""",
        *row.values(),
    )


async def test_a_run_is_accepted_with_its_location(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    caller = place.caller("developer")
    answer = await stage.client(caller).post("/v1/runs", BODY, headers={"traceparent": TRACEPARENT})
    run = answer.json()
    assert answer.status == 202
    assert answer.headers["location"] == f"/v1/runs/{run['id']}"
    assert (run["status"], run["agent_id"], run["semver"]) == ("queued", str(agent.id), "1.0.0")
    assert run["input"] == {"topic": "rivers"}
    assert run["trace_id"] == TRACEPARENT.split("-")[1]
    found = (await stage.client(caller).get(f"/v1/runs/{run['id']}")).json()
    assert found == run | {"hindrance": {"reason": "turn"}}


async def test_either_an_agent_or_an_orchestration(stage: Stage, place: Place) -> None:
    for body in ({"input": {}}, {"agent": "a", "orchestration": "b"}, {"agent": "a", "what": 1}):
        assert (await stage.client(place.caller()).post("/v1/runs", body)).status == 422


async def test_waiting_answers_with_the_end(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()

    async def end_it() -> None:
        (row,) = await runs_of(stage, place, 1)
        await finish(stage, str(row["id"]))

    ending = asyncio.create_task(end_it())
    answer = await stage.client(caller).post("/v1/runs", BODY, headers={"prefer": "wait=20"})
    await ending
    run = answer.json()
    assert answer.status == 200
    assert answer.headers["preference-applied"] == "wait=20"
    assert (run["status"], run["output"], run["execution_time_ms"]) == ("completed", {"text": "done"}, 2000)


async def test_waiting_in_vain_answers_with_what_is(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    answer = await stage.client(place.caller()).post("/v1/runs", BODY, headers={"prefer": "wait=1"})
    assert (answer.status, answer.json()["status"]) == (202, "queued")


async def test_waiting_holds_no_connection(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    pool = stage.units.engine.pool
    waiting = [
        asyncio.create_task(stage.client(caller).post("/v1/runs", BODY, headers={"prefer": "wait=3"}))
        for _ in range(40)
    ]
    await runs_of(stage, place, 40)
    assert pool.size() == 8  # type: ignore[attr-defined]
    answer = await stage.client(caller).get("/v1/runs")
    assert answer.status == 200
    assert {(await task).status for task in waiting} == {202}


async def test_the_same_key_gives_the_same_run_over_http(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    headers = {"idempotency-key": "once"}
    first = await start(stage, caller, **headers)
    assert (await start(stage, caller, **headers))["id"] == first["id"]
    other = await stage.client(caller).post("/v1/runs", {**BODY, "priority": 5}, headers=headers)
    assert (other.status, other.code) == (409, "idempotency_key_reused")


async def test_a_denied_run_leaves_the_refusal_and_the_decision(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    key = place.caller(scopes=["orchestration:execute"])
    answer = await stage.client(key).post("/v1/runs", BODY)
    assert answer.status == 403
    told = await stage.types(place.organization_id)
    assert told[-2:] == ["request.refused.v1", "decision.recorded.v1"]
    assert await stage.sql("select 1 from run where organization_id = $1", place.organization_id) == []


async def test_a_key_that_may_execute_needs_no_other_scope(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    assert (await start(stage, place.caller(scopes=["agent:execute"])))["status"] == "queued"


async def test_a_developer_sees_and_stops_only_its_own(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    mine, other = place.caller("developer"), place.caller("developer")
    run = await start(stage, mine)
    path = f"/v1/runs/{run['id']}"
    nowhere = await stage.client(other).get(f"/v1/runs/{new_id()}")
    for suffix in ("", "/steps", "/events", "/explain"):
        answer = await stage.client(other).get(path + suffix)
        assert (answer.status, answer.json()["detail"]) == (404, nowhere.json()["detail"])
    assert (await stage.client(other).post(f"{path}/cancel")).status == 404
    assert (await stage.client(other).get("/v1/runs")).json()["items"] == []
    assert [item["id"] for item in (await stage.client(mine).get("/v1/runs")).json()["items"]] == [run["id"]]
    assert (await stage.client(mine).get("/v1/runs/count")).json() == {"count": 1}


async def test_a_viewer_sees_runs_without_what_went_in_and_came_out(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    await add_step(stage, run, 1, "agent")
    await finish(stage, run["id"])
    viewer = stage.client(place.caller("viewer"))
    seen = (await viewer.get(f"/v1/runs/{run['id']}")).json()
    assert (seen["input"], seen["output"], seen["masked"]) == (None, None, ["input", "output"])
    for path in ("/steps", "/explain"):
        body = (await viewer.get(f"/v1/runs/{run['id']}{path}")).body.decode()
        assert "secret" not in body
        assert "rivers" not in body
        assert "done" not in body
    assert (await viewer.post("/v1/runs", BODY)).status == 403


async def test_cancelling_twice_changes_nothing(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    run = await start(stage, caller)
    path = f"/v1/runs/{run['id']}/cancel"
    first = await stage.client(caller).post(path, {"reason": "enough"})
    told = await stage.types(place.organization_id)
    again = await stage.client(caller).post(path)
    assert (first.status, first.json()["status"], first.json()["cancel_reason"]) == (200, "cancelled", "enough")
    assert again.json() == first.json()
    assert await stage.types(place.organization_id) == told


def _events(body: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    return found


async def test_watching_tells_each_step_and_ends_with_the_run(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    run = await start(stage, caller)
    path = f"/v1/runs/{run['id']}/events"
    watching = asyncio.create_task(stage.client(caller).get(path))
    await stage.sql(
        "update run set status = 'running', started_at = now(), last_step = 1 where id = $1::uuid", run["id"]
    )
    await add_step(stage, run, 1, "draft")
    await add_step(stage, run, 20, "edit")
    await finish(stage, run["id"])
    answer = await watching
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = _events(answer.body)
    names = [(name, data.get("stepName")) for _, name, data in events]
    assert names == [
        ("RUN_STARTED", None), ("STEP_FINISHED", "draft"), ("STEP_FINISHED", "edit"), ("RUN_FINISHED", None),
    ]  # fmt: skip
    later = await stage.client(caller).get(path, headers={"last-event-id": events[1][0]})
    assert [data.get("stepName") for _, _, data in _events(later.body)] == ["edit", None]
    ended = await stage.client(caller).get(path, headers={"last-event-id": events[-1][0]})
    assert _events(ended.body) == []


async def test_explain_says_who_which_rule_what_and_how_much(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller("developer")
    run = await start(stage, caller)
    await add_step(stage, run, 1, "draft")
    await add_step(stage, run, 2, "edit", cost_usd_micros=4)
    await finish(stage, run["id"])
    found = (await stage.client(caller).get(f"/v1/runs/{run['id']}/explain")).json()
    assert found["run"]["status"] == "completed"
    assert found["trigger"]["triggered_by"] == str(caller.user_id)
    assert found["caller"]["roles"] == ["developer"]
    assert (found["decision"]["effect"], found["decision"]["rule_name"]) == ("allow", "role-matrix")
    assert found["version"]["digest"].startswith("sha256:")
    assert [step["node"] for step in found["steps"]] == ["draft", "edit"]
    assert found["costs"] == [
        {
            "provider": "embedded", "model_name": "m", "price_version": "1", "attempts": 2, "input_tokens": 20,
            "output_tokens": 10, "cost_usd_micros": 11,
        }
    ]  # fmt: skip
    assert found["trace_id"] == found["run"]["trace_id"]


async def test_an_input_above_the_inline_limit_comes_back_whole(stage: Stage, place: Place) -> None:
    open_input = "\n".join(line for line in WRITER.splitlines() if "maxLength" not in line and "required" not in line)
    await make_agent(stage, place, config_yaml=open_input.replace("${input.topic}", "it").replace("type: object", "{}"))
    caller = place.caller()
    large = {"topic": "river " * 20_000}
    answer = await stage.client(caller).post("/v1/runs", {"agent": "writer", "input": large})
    assert answer.status == 202, answer.body
    assert (await stage.client(caller).get(f"/v1/runs/{answer.json()['id']}")).json()["input"] == large


async def test_a_workspace_made_a_moment_ago_is_waited_for(stage: Stage, place: Place) -> None:
    fresh = new_id()
    body = {"name": "early", "config_yaml": WRITER, "workspace": str(fresh)}
    asking = asyncio.create_task(stage.client(place.caller()).post("/v1/agents", body))
    await asyncio.sleep(0.1)
    await stage.workspace(place, fresh, name="second")
    assert (await asking).status == 201
    unknown = await stage.client(place.caller()).post("/v1/agents", {**body, "workspace": str(new_id())})
    assert (unknown.status, unknown.code, unknown.headers["retry-after"]) == (409, "not_yet_known", "1")


async def test_many_runs_at_once_each_for_itself(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    client = stage.client(place.caller())
    good, unknown, unfit = BODY, {"agent": "nobody"}, {"agent": "writer", "input": {"topic": 3}}
    keyed = {**BODY, "idempotency_key": "k1"}
    body = {"items": [good, unknown, unfit, keyed, good]}
    made = (await client.post("/v1/runs/bulk-create", body)).json()
    assert [result["status"] for result in made["results"]] == [202, 404, 422, 202, 202]
    assert (made["succeeded"], made["refused"]) == (3, 2)
    kept = {result["item"]["id"] for result in made["results"] if result["item"]}
    assert {str(row["id"]) for row in await runs_of(stage, place, 3)} == kept
    told = await stage.types(place.organization_id)
    assert told.count("run.queued.v1") == told.count("decision.recorded.v1") == 3
    again = (await client.post("/v1/runs/bulk-create", {"items": [keyed]})).json()
    assert again["results"][0]["item"]["id"] == made["results"][3]["item"]["id"]
    reused = {"items": [{**keyed, "input": {"topic": "seas"}}]}
    assert (await client.post("/v1/runs/bulk-create", reused)).json()["results"][0]["code"] == "idempotency_key_reused"
    assert (await client.post("/v1/runs/bulk-create", {"items": [keyed, keyed]})).status == 422


async def test_many_runs_stop_at_the_number_of_the_month(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    client = stage.client(place.caller())
    await stage.sql(
        """insert into run_month (organization_id, month, runs)
        values ($1, date_trunc('month', now() at time zone 'utc')::date, 99999)""",
        place.organization_id,
    )
    made = (await client.post("/v1/runs/bulk-create", {"items": [BODY] * 3})).json()
    assert [result["code"] for result in made["results"]] == ["", *["max_executions_per_month"] * 2]
    assert len(await runs_of(stage, place, 1)) == 1
    counted = await stage.sql("select runs from run_month where organization_id = $1", place.organization_id)
    assert counted[0][0] == 100_000
