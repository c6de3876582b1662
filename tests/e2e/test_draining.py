"""Letting a workspace run empty: what identity keeps, what execution makes of it, and what the edge answers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.town import Town, until

pytestmark = [pytest.mark.anyio, pytest.mark.seconds(120)]
WAITS = """apiVersion: orchestration/v1
pattern: sequential
steps: [{id: go, signal: {name: go}}, {id: act, agent: worker, in: {topic: rivers}}]
"""


async def test_an_operator_drains_a_workspace_and_what_has_begun_goes_on_to_its_end(town: Town) -> None:
    owner, send = town.south.key, town.traffic.send
    operator = (await send("POST", "/v1/api-keys", owner, {"name": "an operator's", "role": "operator"}))["api_key"]

    async def known() -> bool:
        return (await town.ask("GET", "/v1/me", operator)).status == 200

    await until(known, "the key is known everywhere")
    worker = (await town.ask("GET", "/v1/agents?name=worker", owner)).json["items"][0]
    body = {"name": "waits", "config_yaml": WAITS, "agent_ids": {"worker": {"id": worker["id"]}}}
    what = await send("POST", "/v1/orchestrations", owner, body | {"workspace": worker["workspace_id"]})
    path = f"/v1/workspaces/{worker['workspace_id']}"
    run = await send("POST", "/v1/runs", owner, {"orchestration": what["id"], "input": {}})

    async def has(status: str) -> Any:
        found = (await town.ask("GET", f"/v1/runs/{run['id']}", owner)).json
        return found if found["status"] == status else None

    async def become(status: str) -> None:
        version = (await town.ask("GET", path, operator)).json["version"]
        changed = await town.ask("PATCH", f"{path}/limits", operator, {"status": status}, {"If-Match": f'"{version}"'})
        assert (changed.status, changed.json["status"]) == (200, status)

    async def started() -> Any:
        return await town.ask("POST", "/v1/runs", owner, {"agent": "worker", "input": {"topic": "rivers"}})

    async def refused() -> Any:
        answer = await started()
        return answer if answer.status == 409 else None

    await until(lambda: has("waiting"), "the run waits")
    await become("draining")
    try:
        answer = await until(refused, "execution knows that the workspace drains")
        assert answer.json["code"] == "workspace_draining"
        await send("POST", f"/v1/runs/{run['id']}/signal", owner, {"name": "go"})
        await until(lambda: has("completed"), "the run has gone on to its end")
    finally:
        await become("active")

    async def open_again() -> bool:
        return bool((await started()).status == 202)

    await until(open_again, "runs start again")
