from __future__ import annotations

import pytest
from services.execution.tests.stage import Place, Stage

from chassis.sealing import Keyring, UnsealError
from execution.usecases.model_credentials import open_credential

pytestmark = pytest.mark.anyio
SECRET = "sk-test-0123456789-wxyz"
BODY = {"name": "openai", "provider": "openai", "secret": SECRET}


async def test_a_key_is_sealed_shown_to_nobody_and_opened_by_workers(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    answer = await client.post("/v1/model-credentials", BODY)
    made = answer.json()
    assert (answer.status, made["hint"]) == (201, "wxyz")
    seen = answer.body + (await client.get("/v1/model-credentials")).body
    seen += (await client.get(f"/v1/model-credentials/{made['id']}")).body
    assert SECRET.encode() not in seen
    row = (await stage.sql("select * from model_credential where id = $1::uuid", made["id"]))[0]
    assert SECRET.encode() not in row["ciphertext"] + row["wrapped_key"]
    keyring = Keyring.read(stage.directory / "keyring.json")
    assert open_credential(keyring, row) == SECRET
    for facts in await stage.bodies(place.organization_id):
        assert SECRET not in str(facts)


async def test_a_key_copied_to_another_row_does_not_open(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    made = (await client.post("/v1/model-credentials", BODY)).json()
    row = dict((await stage.sql("select * from model_credential where id = $1::uuid", made["id"]))[0])
    row["organization_id"] = place.workspace_id
    with pytest.raises(UnsealError):
        open_credential(Keyring.read(stage.directory / "keyring.json"), row)


async def test_a_key_is_replaced_and_destroyed(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    made = (await client.post("/v1/model-credentials", BODY)).json()
    path = f"/v1/model-credentials/{made['id']}"
    replaced = await client.patch(path, {"secret": "sk-other-0123456789-abcd"}, headers={"if-match": '"1"'})
    assert (replaced.status, replaced.json()["hint"], replaced.json()["version"]) == (200, "abcd", 2)
    row = (await stage.sql("select * from model_credential where id = $1::uuid", made["id"]))[0]
    assert open_credential(Keyring.read(stage.directory / "keyring.json"), row) == "sk-other-0123456789-abcd"
    assert (await client.delete(path)).status == 204
    assert (await client.get(path)).status == 404
    assert (await stage.types(place.organization_id))[-2:] == [
        "model_credential.updated.v1",
        "model_credential.deleted.v1",
    ]


COMPATIBLE = {**BODY, "provider": "openai-compatible", "base_url": "https://models.example.com/v1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {**BODY, "base_url": "https://x.example.com"},
        {**BODY, "provider": "openai-compatible"},
        {**BODY, "provider": "mcp"},
    ],
)
async def test_a_key_says_where_it_may_be_sent(stage: Stage, place: Place, wrong: dict[str, str]) -> None:
    refused = await stage.client(place.caller()).post("/v1/model-credentials", wrong)
    assert (refused.status, refused.json()["code"]) == (422, "invalid_base_url")


@pytest.mark.parametrize(
    ("provider", "base_url"),
    [("anthropic", None), ("anthropic", "https://a.example.com"), ("mcp", "https://t.example.com/mcp")],
)
async def test_keys_of_each_provider_are_stored(
    stage: Stage, place: Place, provider: str, base_url: str | None
) -> None:
    body = {**BODY, "provider": provider, "base_url": base_url}
    made = await stage.client(place.caller()).post("/v1/model-credentials", body)
    assert (made.status, made.json()["provider"], made.json()["base_url"]) == (201, provider, base_url)


async def test_a_key_moves_to_another_address_only_with_the_key(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    path = f"/v1/model-credentials/{(await client.post('/v1/model-credentials', COMPATIBLE)).json()['id']}"
    elsewhere, current = {"base_url": "https://elsewhere.example.com/v1"}, {"if-match": '"1"'}
    refused = await client.patch(path, elsewhere, headers=current)
    assert (refused.status, refused.json()["code"]) == (422, "secret_needed")
    assert (await client.get(path)).json()["base_url"] == COMPATIBLE["base_url"]
    moved = await client.patch(path, {**elsewhere, "secret": SECRET}, headers=current)
    assert (moved.status, moved.json()["base_url"]) == (200, elsewhere["base_url"])
    nowhere = await client.patch(path, {"base_url": None, "secret": SECRET}, headers={"if-match": '"2"'})
    assert (nowhere.status, nowhere.json()["code"]) == (422, "invalid_base_url")


@pytest.mark.parametrize("role", ["developer", "operator", "viewer"])
async def test_only_administrators_see_keys(stage: Stage, place: Place, role: str) -> None:
    client = stage.client(place.caller(role))
    assert (await client.post("/v1/model-credentials", BODY)).status == 403
    assert (await client.get("/v1/model-credentials")).status == 403
