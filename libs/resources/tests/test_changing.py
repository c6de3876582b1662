from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.resources.tests.crates import Crate, CrateChanged, make_crate

from chassis.errors import ConflictError, NotFoundError
from contracts.chassis import BillingRequestRefused
from resources.patches import apply_patch, merge_patch
from resources.upserts import upsert
from spine.testing import Client, Stage

pytestmark = pytest.mark.anyio


async def made(client: Client, name: str = "crate", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/crates", {"name": name, **fields})
    assert answer.status == 201, answer.body
    crate: dict[str, Any] = answer.json()
    return crate


async def hows(stage: Stage, organization_id: UUID) -> list[str]:
    return [fact.data["how"] for fact in await stage.facts(CrateChanged, organization_id=organization_id)]


async def test_a_patch_changes_what_it_names(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    crate = await made(client, content={"a": 1, "b": {"c": 2}})
    path = f"/v1/crates/{crate['id']}"
    first = await client.patch(
        path, {"colour": "red", "content": {"b": {"d": 3}, "a": None}}, headers={"If-Match": '"1"'}
    )
    assert (first.status, first.headers["etag"]) == (200, '"2"')
    assert first.json() == {**crate, "colour": "red", "content": {"b": {"c": 2, "d": 3}}, "version": 2}
    second = await client.patch(path, {"colour": None}, headers={"If-Match": 'W/"2"'})
    assert (second.json()["colour"], second.json()["version"]) == (None, 3)
    assert (await client.patch(path, {"name": None}, headers={"If-Match": '"3"'})).status == 422
    assert (await client.patch(path, {"weight": 3}, headers={"If-Match": '"3"'})).status == 422
    assert await hows(stage, caller.organization_id) == ["created", "updated", "updated"]


async def test_a_patch_that_changes_nothing_is_no_version(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    crate = await made(client)
    answer = await client.patch(f"/v1/crates/{crate['id']}", {"name": "crate"}, headers={"If-Match": '"1"'})
    assert answer.json() == crate
    assert await hows(stage, caller.organization_id) == ["created"]


@pytest.mark.parametrize(
    ("if_match", "status", "code"),
    [
        (None, 428, "version_required"),
        ('"2"', 412, "stale_version"),
        ("*", 422, "bad_if_match"),
        ('"x"', 422, "bad_if_match"),
    ],
)
async def test_nobody_overwrites_what_he_has_not_seen(
    stage: Stage, if_match: str | None, status: int, code: str
) -> None:
    client = stage.client(await stage.caller())
    crate = await made(client)
    headers = {} if if_match is None else {"If-Match": if_match}
    answer = await client.patch(f"/v1/crates/{crate['id']}", {"name": "other"}, headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert (await client.get(f"/v1/crates/{crate['id']}")).json() == crate


async def test_two_at_once_one_wins(stage: Stage) -> None:
    client = stage.client(await stage.caller())
    path = f"/v1/crates/{(await made(client))['id']}"
    answers = await asyncio.gather(
        *(client.patch(path, {"colour": colour}, headers={"If-Match": '"1"'}) for colour in ("red", "green", "blue"))
    )
    assert sorted(answer.status for answer in answers) == [200, 412, 412]


async def test_deleted_is_gone_until_restored(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    path = f"/v1/crates/{(await made(client))['id']}"
    assert (await client.delete(path)).status == 204
    assert (await client.get(path)).code == "not_found"
    assert (await client.delete(path)).code == "not_found"
    assert (await client.get("/v1/crates")).json()["items"] == []
    restored = await client.post(f"{path}/restore")
    assert (restored.status, restored.json()["version"]) == (200, 3)
    assert (await client.post(f"{path}/restore")).json() == restored.json()
    assert await hows(stage, caller.organization_id) == ["created", "deleted", "restored"]


async def test_a_name_taken_meanwhile_stops_the_restoring(stage: Stage) -> None:
    client = stage.client(await stage.caller())
    path = f"/v1/crates/{(await made(client))['id']}"
    await client.delete(path)
    await made(client)
    answer = await client.post(f"{path}/restore")
    assert (answer.status, answer.code) == (409, "already_exists")
    assert (await client.get(path)).status == 404


async def test_upsert_is_safe_to_repeat(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    first = await client.put("/v1/crates/by-name/box", {"name": "box", "weight": 1})
    second = await client.put("/v1/crates/by-name/box", {"name": "box", "weight": 5})
    third = await client.put("/v1/crates/by-name/box", {"name": "box", "weight": 5})
    assert [answer.status for answer in (first, second, third)] == [201, 200, 200]
    assert second.json() == {**first.json(), "weight": 5, "version": 2}
    assert third.json() == second.json()
    assert await hows(stage, caller.organization_id) == ["created", "updated"]


async def test_upserts_at_once_make_one_row(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    answers = await asyncio.gather(
        *(client.put("/v1/crates/by-name/box", {"name": "box", "weight": w}) for w in range(1, 5))
    )
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 201]
    assert (await hows(stage, caller.organization_id)).count("created") == 1


async def test_upsert_of_somebody_faster_updates_after_all(stage: Stage) -> None:
    caller = await stage.caller()

    async def create_late() -> Crate:
        async with stage.begin(caller) as other:
            await make_crate(other, "box")
        return await make_crate(uow, "box")

    async def weigh(crate: Crate) -> Crate:
        apply_patch(uow, crate, {"weight": 7})
        return crate

    async with stage.begin(caller) as uow:
        crate, created = await upsert(uow, Crate, {"name": "box"}, create=create_late, update=weigh)
        assert (crate.weight, crate.version, created) == (7, 2, False)
    assert await stage.database.value("select weight from crate where id = $1", crate.id) == 7


async def test_other_refusals_of_an_upsert_are_its_answer(stage: Stage) -> None:
    async def refuse() -> Crate:
        raise ConflictError("full", code="full")

    async def keep(crate: Crate) -> Crate:
        return crate

    async with stage.begin(await stage.caller()) as uow:
        with pytest.raises(ConflictError, match="full"):
            await upsert(uow, Crate, {"name": "box"}, create=refuse, update=keep)


async def test_bulk_has_a_result_per_item(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    await made(client, "taken")
    names = ["a", "taken", "b", "a", "c"]
    answer = await client.post("/v1/crates/bulk", {"items": [{"name": name} for name in names]})
    body = answer.json()
    assert (answer.status, body["succeeded"], body["refused"]) == (200, 3, 2)
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3, 4]
    assert [result["status"] for result in body["results"]] == [201, 409, 201, 409, 201]
    assert [result["code"] for result in body["results"]] == ["", "already_exists", "", "already_exists", ""]
    kept = await client.get("/v1/crates", query={"sort": "name", "fields": "name"})
    assert [item["name"] for item in kept.json()["items"]] == ["a", "b", "c", "taken"]
    assert await hows(stage, caller.organization_id) == ["created"] * 4
    (refused,) = await stage.facts(BillingRequestRefused, organization_id=caller.organization_id)
    assert (refused.data["operation"], refused.data["code"], refused.data["count"]) == (
        "create_crates",
        "already_exists",
        2,
    )


@pytest.mark.parametrize(("number", "status"), [(0, 422), (1000, 200), (1001, 422)])
async def test_bulk_has_a_limit(stage: Stage, number: int, status: int) -> None:
    client = stage.client(await stage.caller())
    answer = await client.post("/v1/crates/bulk", {"items": [{"name": f"crate {i}"} for i in range(number)]})
    assert answer.status == status


async def test_a_column_that_is_none_is_a_mistake_of_ours(stage: Stage) -> None:
    async with stage.begin(await stage.caller()) as uow:
        crate = await make_crate(uow, "box")
        with pytest.raises(TypeError, match="size"):
            apply_patch(uow, crate, {"size": 1})
        changes = apply_patch(uow, crate, {"weight": 2, "name": "box"})
        assert changes == {"weight": (1, 2)}


async def test_a_savepoint_takes_its_facts_with_it(stage: Stage) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        await make_crate(uow, "kept")
        with pytest.raises(NotFoundError):  # noqa: PT012  (the block is what is undone)
            async with uow.savepoint():
                await make_crate(uow, "undone")
                raise NotFoundError("no")
    assert await hows(stage, caller.organization_id) == ["created"]
    assert (
        await stage.database.value("select count(*) from crate where organization_id = $1", caller.organization_id) == 1
    )


DOCUMENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(max_size=2), DOCUMENT, max_size=4)


@given(document=OBJECT, patch=OBJECT)
def test_merging_follows_the_standard(document: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge_patch(document, patch)
    assert merge_patch(merged, patch) == merged
    for key in document.keys() - patch.keys():
        assert merged[key] == document[key]
    for key, value in patch.items():
        if value is None:
            assert key not in merged
        elif not isinstance(value, dict):
            assert merged[key] == value
    assert merged.keys() <= document.keys() | patch.keys()


def test_the_examples_of_rfc_7396() -> None:
    assert merge_patch({"a": "b", "b": "c"}, {"a": None}) == {"b": "c"}
    assert merge_patch({"a": ["b"]}, {"a": "c"}) == {"a": "c"}
    assert merge_patch({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merge_patch({"a": [{"b": "c"}]}, {"a": [1]}) == {"a": [1]}
    assert merge_patch({"e": None}, {"a": 1}) == {"e": None, "a": 1}
    assert merge_patch({}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}
