from __future__ import annotations

import pytest
from services.execution.tests.factories import HTTP, WRITER, make_agent
from services.execution.tests.stage import Place, Stage

pytestmark = pytest.mark.anyio


async def test_an_update_says_which_version_it_changes(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    client, path = stage.client(place.caller()), f"/v1/agents/{agent.id}"
    assert (await client.patch(path, {"status": "deprecated"})).status == 428
    assert (await client.patch(path, {"status": "deprecated"}, headers={"if-match": '"7"'})).status == 412
    changed = await client.patch(path, {"status": "deprecated"}, headers={"if-match": '"1"'})
    assert (changed.status, changed.headers["etag"], changed.json()["status"]) == (200, '"2"', "deprecated")
    assert (await client.get(path)).headers["etag"] == '"2"'


async def test_an_unknown_key_is_refused(stage: Stage, place: Place) -> None:
    answer = await stage.client(place.caller()).post("/v1/agents", {"name": "a", "config_yaml": WRITER, "colour": 1})
    assert answer.status == 422


async def test_a_wrong_definition_is_refused_with_its_places(stage: Stage, place: Place) -> None:
    body = {"name": "a", "config_yaml": "apiVersion: agent/v1\nkind: llm\n"}
    answer = await stage.client(place.caller()).post("/v1/agents", body)
    assert (answer.status, answer.code) == (422, "invalid_definition")
    assert answer.json()["errors"][0]["line"] >= 1


async def test_lists_filter_sort_and_page(stage: Stage, place: Place) -> None:
    for name in ("a", "b", "c"):
        await make_agent(stage, place, name, HTTP if name == "c" else WRITER)
    client = stage.client(place.caller("viewer"))
    first = (await client.get("/v1/agents", query={"sort": "name", "limit": 2, "fields": "name"})).json()
    assert first["items"] == [{"name": "a"}, {"name": "b"}]
    after = {"sort": "name", "limit": 2, "cursor": first["next_cursor"]}
    second = (await client.get("/v1/agents", query=after)).json()
    assert ([item["name"] for item in second["items"]], second["next_cursor"]) == (["c"], None)
    assert (await client.get("/v1/agents/count", query={"agent_type": "http"})).json() == {"count": 1}


async def test_a_developer_changes_only_its_own(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    developer = stage.client(place.caller("developer"))
    path = f"/v1/agents/{agent.id}"
    assert (await developer.get(path)).status == 200
    assert (await developer.patch(path, {"description": "mine"}, headers={"if-match": '"1"'})).status == 404
    assert (await developer.delete(path)).status == 403
    own = (await developer.post("/v1/agents", {"name": "own", "config_yaml": WRITER})).json()
    changed = await developer.patch(f"/v1/agents/{own['id']}", {"description": "x"}, headers={"if-match": '"1"'})
    assert changed.status == 200


async def test_versions_are_listed_and_found(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    client, path = stage.client(place.caller()), f"/v1/agents/{agent.id}/versions"
    second = (await client.post(path, {"config_yaml": HTTP, "change_summary": "moved"})).json()
    assert (second["semver"], second["is_current"]) == ("1.0.1", True)
    listed = (await client.get(path)).json()["items"]
    assert [(item["semver"], item["is_current"]) for item in listed] == [("1.0.1", True), ("1.0.0", False)]
    assert (await client.get(f"{path}/1.0.0")).json()["config"]["kind"] == "llm"
    assert (await client.get(f"{path}/3.0.0")).status == 404


async def test_many_at_once_each_for_itself(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    items = [{"name": name, "config_yaml": WRITER} for name in ("a", "b", "a")]
    items.append({"name": "c", "config_yaml": "kind: nothing"})
    made = (await client.post("/v1/agents/bulk-create", {"items": items})).json()
    assert [result["status"] for result in made["results"]] == [201, 201, 409, 422]
    assert (made["succeeded"], made["refused"]) == (2, 2)
    ids = [result["item"]["id"] for result in made["results"][:2]]
    patches = [{"id": ids[0], "version": 1, "risk_level": "high"}, {"id": ids[1], "version": 7, "risk_level": "high"}]
    changed = (await client.post("/v1/agents/bulk-update", {"items": patches})).json()
    assert [(result["status"], result["code"]) for result in changed["results"]] == [(200, ""), (412, "stale_version")]
    gone = (await client.post("/v1/agents/bulk-delete", {"items": [*ids, ids[0]]})).json()
    assert [result["status"] for result in gone["results"]] == [200, 200, 404]
    told = await stage.types(place.organization_id)
    assert told.count("agent.created.v1") == told.count("agent.deleted.v1") == 2
    assert told.count("agent.updated.v1") == 1
    assert (await client.get("/v1/agents/count")).json() == {"count": 0}


async def test_above_a_thousand_items_is_refused(stage: Stage, place: Place) -> None:
    items = [{"name": f"a{number}", "config_yaml": WRITER} for number in range(1001)]
    assert (await stage.client(place.caller()).post("/v1/agents/bulk-create", {"items": items})).status == 422
