from __future__ import annotations

from typing import Any

import pytest
from services.execution.tests.examples import PRICE
from services.execution.tests.stage import Place, Stage

from execution.usecases import model_prices

pytestmark = pytest.mark.anyio
PATH = "/v1/model-prices"


async def test_a_price_is_said_corrected_and_taken_back(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    answer = await client.post(PATH, PRICE)
    made = answer.json()
    path = f"{PATH}/{made['id']}"
    assert (answer.status, answer.headers["location"], answer.headers["etag"]) == (201, path, '"1"')
    assert {name: made[name] for name in PRICE} == PRICE
    assert made["valid_from"] == made["created_at"]
    wanted = {"input_usd_micros_per_million": 200_000, "valid_from": "2026-01-01T00:00:00Z"}
    assert (await client.patch(path, wanted)).status == 428
    changed = await client.patch(path, wanted, headers={"if-match": '"1"'})
    assert (changed.status, changed.headers["etag"]) == (200, '"2"')
    seen = (await client.get(path)).json()
    assert (seen["input_usd_micros_per_million"], seen["valid_from"]) == (200_000, "2026-01-01T00:00:00Z")
    assert seen["output_usd_micros_per_million"] == 600_000
    stale = await client.patch(path, {"input_usd_micros_per_million": 1}, headers={"if-match": '"1"'})
    assert stale.status == 412
    assert (await client.delete(path)).status == 204
    assert (await client.get(path)).status == 404
    told = [body for body in await stage.bodies(place.organization_id) if "model_price" in body["type"]]
    assert [body["type"].split(".")[2] for body in told] == ["created", "updated", "deleted"]
    assert told[1]["data"]["changes"] == {
        "input_usd_micros_per_million": [150_000, 200_000],
        "valid_from": [made["valid_from"].replace("Z", "+00:00"), "2026-01-01T00:00:00+00:00"],
    }


@pytest.mark.parametrize("provider", ["embedded", "openai", "openai-compatible", "anthropic"])
async def test_models_of_each_provider_have_prices(stage: Stage, place: Place, provider: str) -> None:
    made = await stage.client(place.caller()).post(PATH, {**PRICE, "provider": provider})
    assert (made.status, made.json()["provider"]) == (201, provider), made.body


async def test_an_update_that_changes_nothing_leaves_no_fact(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    made = (await client.post(PATH, PRICE)).json()
    same = {"input_usd_micros_per_million": PRICE["input_usd_micros_per_million"]}
    answer = await client.patch(f"{PATH}/{made['id']}", same, headers={"if-match": '"1"'})
    assert (answer.status, answer.json()["version"]) == (200, 1)
    assert await stage.types(place.organization_id) == ["model_price.created.v1"]


async def test_a_model_has_one_price_from_one_moment_on(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller())
    body = {**PRICE, "valid_from": "2026-01-01T00:00:00Z"}
    assert (await client.post(PATH, body)).status == 201
    again = await client.post(PATH, {**body, "input_usd_micros_per_million": 1})
    assert (again.status, again.json()["code"]) == (409, "already_exists")
    later = (await client.post(PATH, {**body, "valid_from": "2026-02-01T00:00:00Z"})).json()
    back = {"valid_from": "2026-01-01T00:00:00Z"}
    moved = await client.patch(f"{PATH}/{later['id']}", back, headers={"if-match": '"1"'})
    assert (moved.status, moved.json()["code"]) == (409, "already_exists")
    other = await stage.place()
    assert (await stage.client(other.caller()).post(PATH, body)).status == 201
    assert (await client.get(f"{PATH}/count")).json() == {"count": 2}
    listed = (await client.get(PATH, query={"sort": "-valid_from"})).json()["items"]
    assert [item["valid_from"][:7] for item in listed] == ["2026-02", "2026-01"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_name": "a*b"}, {"model_name": ""}, {"model_name": "x" * 201}, {"provider": "nobody"},
        {"input_usd_micros_per_million": -1}, {"output_usd_micros_per_million": 10_000_000_001},
        {"input_usd_micros_per_million": 0.5}, {"valid_from": "2026-01-01T00:00:00"}, {"currency": "EUR"},
    ],
)  # fmt: skip
async def test_what_is_no_price_is_refused(stage: Stage, place: Place, wrong: dict[str, Any]) -> None:
    answer = await stage.client(place.caller()).post(PATH, {**PRICE, **wrong})
    assert answer.status == 422, answer.body


@pytest.mark.parametrize("role", ["developer", "operator", "viewer"])
async def test_everybody_sees_prices_and_administrators_say_them(stage: Stage, place: Place, role: str) -> None:
    made = (await stage.client(place.caller("org_owner")).post(PATH, PRICE)).json()
    client = stage.client(place.caller(role))
    assert [item["id"] for item in (await client.get(PATH)).json()["items"]] == [made["id"]]
    assert (await client.get(f"{PATH}/{made['id']}")).status == 200
    assert (await client.post(PATH, PRICE)).status == 403
    assert (await client.delete(f"{PATH}/{made['id']}")).status == 403


async def test_an_organization_has_so_many_prices(stage: Stage, place: Place) -> None:
    await stage.sql(
        """insert into model_price (id, organization_id, provider, model_name, input_usd_micros_per_million,
        output_usd_micros_per_million, valid_from, created_by)
        select gen_random_uuid(), $1, 'openai', 'm' || number, 1, 1, now(), 'test' from generate_series(2, $2) number""",
        place.organization_id, model_prices.MAX_MODEL_PRICES,
    )  # fmt: skip
    client = stage.client(place.caller())
    assert (await client.post(PATH, PRICE)).status == 201
    refused = await client.post(PATH, {**PRICE, "model_name": "one more"})
    assert (refused.status, refused.json()["code"]) == (429, "too_many_model_prices")
