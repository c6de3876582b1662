from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from services.audit.tests.factories import NOON, TRACE, Producer, completed, queued, store

from chassis.caller import Caller
from chassis.ids import new_id
from contracts.execution import RunFailed
from spine.fact_message import RawFact
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio


async def told(stage: Stage, caller: Caller, count: int = 7) -> list[RawFact]:
    """Facts one second apart, the last two at once."""
    producer = Producer()
    times = [NOON + timedelta(seconds=min(number, count - 2)) for number in range(count)]
    facts = [producer.raw(caller.organization_id, completed(), time=time) for time in times]
    await store(stage, facts)
    return facts


async def listed(stage: Stage, caller: Caller, **query: Any) -> list[dict[str, Any]]:
    answer = await stage.client(caller).get("/v1/audit-entries", query=query)
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def ids(facts: Sequence[RawFact]) -> list[str]:
    return [str(fact.id) for fact in facts]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_show_each_entry_once_in_order(stage: Stage, order: str) -> None:
    caller = await stage.caller("org_owner")
    facts = await told(stage, caller)
    seen, query = [], {"order": order, "limit": 2}
    while True:
        page = (await stage.client(caller).get("/v1/audit-entries", query=query)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == (ids(facts) if order == "asc" else ids(facts)[::-1])


async def test_filters_narrow_the_list(stage: Stage) -> None:
    caller, producer, run_id = await stage.caller("org_owner"), Producer(), new_id()
    organization_id = caller.organization_id
    failed = RunFailed(run_id=run_id, workspace_id=new_id(), execution_type="agent", error_code="broken")
    facts = [
        producer.raw(organization_id, queued(run_id), actor="bob"),
        producer.raw(organization_id, failed, time=NOON + timedelta(hours=1)),
        producer.raw(organization_id, completed()),
    ]
    await store(stage, facts)
    for query, wanted in (
        ({"run_id": str(run_id)}, {0, 1}),
        ({"resource_id": str(run_id), "resource_type": "run"}, {0, 1}),
        ({"event_type": "execution.run.failed.v1"}, {1}),
        ({"result": "failure"}, {1}),
        ({"actor_id": "bob"}, {0}),
        ({"trace_id": TRACE.split("-")[1]}, {0, 1, 2}),
        ({"trace_id": "0" * 32}, set()),
        ({"from": (NOON + timedelta(minutes=1)).isoformat()}, {1}),
        ({"to": NOON.isoformat()}, {0, 2}),
        ({"run_id": str(new_id())}, set()),
    ):
        found = {item["id"] for item in await listed(stage, caller, **query)}
        assert found == {str(facts[number].id) for number in wanted}, query


async def test_an_entry_shows_its_fact_and_its_bytes(stage: Stage) -> None:
    caller = await stage.caller("org_owner")
    (fact,) = await told(stage, caller, 1)
    answer = await stage.client(caller).get(f"/v1/audit-entries/{fact.id}")
    entry = answer.json()
    assert base64.b64decode(entry["fact"]) == fact.body
    assert entry["context"]["execution_type"] == "agent"
    assert (entry["timestamp"], entry["sequence"], entry["leaf_index"]) == ("2026-11-22T11:59:59Z", 1, 0)


@pytest.mark.parametrize(
    ("query", "status"),
    [({"limit": 0}, 422), ({"limit": 201}, 422), ({"order": "up"}, 422), ({"cursor": "nonsense"}, 422), ({"run_id": "7"}, 422)],
)  # fmt: skip
async def test_questions_have_limits(stage: Stage, query: dict[str, Any], status: int) -> None:
    caller = await stage.caller("org_owner")
    assert (await stage.client(caller).get("/v1/audit-entries", query=query)).status == status


async def test_a_developer_sees_its_own(stage: Stage) -> None:
    developer, producer = await stage.caller("developer"), Producer()
    mine, owned, other = (
        producer.raw(developer.organization_id, fact, actor=actor)
        for fact, actor in (
            (completed(), developer.id), (completed(owner_id=developer.owner_id), "engine"), (completed(), "somebody"),
        )
    )  # fmt: skip
    await store(stage, [mine, owned, other])
    assert {item["id"] for item in await listed(stage, developer)} == {str(mine.id), str(owned.id)}
    client = stage.client(developer)
    assert (await client.get(f"/v1/audit-entries/{owned.id}")).status == 200
    assert (await client.get(f"/v1/audit-entries/{other.id}")).status == 404
    assert (await stage.client(await stage.caller("viewer")).get("/v1/audit-entries")).status == 403


async def test_nobody_reads_another_organizations_log_by_any_filter(stage: Stage) -> None:
    home, stranger = await stage.caller("org_owner"), await stage.caller("org_owner")
    producer, run_id = Producer(), new_id()
    await store(stage, [producer.raw(home.organization_id, queued(run_id))])
    for query in ({}, {"run_id": str(run_id)}, {"resource_id": str(run_id)}, {"trace_id": TRACE.split("-")[1]}):
        assert await listed(stage, stranger, **query) == []
