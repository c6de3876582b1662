from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest
from libs.resources.tests.crates import CRATES, Crate, CrateOut, list_crates_of, make_crate

from chassis.caller import Caller
from chassis.errors import ForbiddenError
from chassis.permits import Permit
from resources.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_IN
from resources.listing import Resource
from spine.testing import Answer, Client, Stage

pytestmark = pytest.mark.anyio
DAY = datetime(2026, 11, 1, tzinfo=UTC)
COLOURS = ("red", "green", None)


@pytest.fixture(scope="module")
async def caller(stage: Stage) -> Caller:
    """Nine crates: three colours, weights 0 to 2, one a day; the last is deleted."""
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        for i in range(10):
            await make_crate(
                uow, f"crate {i}", colour=COLOURS[i % 3], weight=i // 4, is_open=i % 2 == 0, content={"n": i},
                packed_on=date(2026, 11, 1 + i), created_at=DAY + timedelta(days=i), deleted_at=DAY if i == 9 else None,
            )  # fmt: skip
    return caller


@pytest.fixture(scope="module")
def client(stage: Stage, caller: Caller) -> Client:
    return stage.client(caller)


def numbers(answer: Answer) -> list[int]:
    assert answer.status == 200, answer.body
    return [int(item["name"].split()[1]) for item in answer.json()["items"]]


async def listed(client: Client, **query: str | int) -> list[int]:
    return numbers(await client.get("/v1/crates", query=query))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ({"colour": "red"}, [6, 3, 0]),
        ({"colour[ne]": "red"}, [8, 7, 5, 4, 2, 1]),
        ({"colour[null]": "true"}, [8, 5, 2]),
        ({"colour[null]": "false", "weight": "1"}, [7, 6, 4]),
        ({"colour[in]": "red,green", "weight[gte]": "1"}, [7, 6, 4]),
        ({"weight[lt]": "1"}, [3, 2, 1, 0]),
        ({"weight[lte]": "1", "weight[gt]": "0"}, [7, 6, 5, 4]),
        ({"is_open": "true", "weight": "0"}, [2, 0]),
        ({"packed_on[lt]": "2026-11-03"}, [1, 0]),
        ({"created_at[gte]": "2026-11-08T00:00:00Z"}, [8, 7]),
        ({"created_at[gte]": "2026-11-08T02:00:00+02:00"}, [8, 7]),
        ({"created_at[gte]": "2026-11-08"}, [8, 7]),
        ({"name[like]": "%E 3"}, [3]),
        ({"colour[like]": "r%"}, [6, 3, 0]),
        ({"q": "rEd"}, [6, 3, 0]),
        ({"q": "e_3"}, []),
        ({"q": "%"}, []),
        ({"deleted": "true"}, [9]),
        ({"filter": '{"or":[{"weight":2},{"and":[{"colour":"red"},{"is_open":true}]}]}'}, [8, 6, 0]),
        ({"filter": '{"colour":null,"weight":{"gte":1,"lt":2}}'}, [5]),
        ({"filter": '{"name":{"in":["crate 1","crate 2","crate 9"]}}'}, [2, 1]),
        ({"sort": "weight,-name", "weight[in]": "0,1"}, [3, 2, 1, 0, 7, 6, 5, 4]),
        ({"sort": "-weight,name"}, [8, 4, 5, 6, 7, 0, 1, 2, 3]),
        ({"limit": "2"}, [8, 7]),
    ],
)
async def test_what_may_be_asked(client: Client, query: dict[str, str], expected: list[int]) -> None:
    assert await listed(client, **query) == expected
    counted = await client.get("/v1/crates/count", query={k: v for k, v in query.items() if k != "limit"})
    assert counted.json() == {"count": len(expected) if "limit" not in query else 9}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"size": "1"}, "size"),
        ({"input": "1"}, "input"),
        ({"organization_id": "1"}, "organization_id"),
        ({"colour[is]": "red"}, "colour[is]"),
        ({"colour": "loud"}, "colour"),
        ({"colour[ne]": "loud"}, "colour[ne]"),
        ({"colour[in]": "red,loud"}, "colour[in]"),
        ({"filter": '{"or":[{"colour":"loud"}]}'}, "filter"),
        ({"weight": "heavy"}, "weight"),
        ({"weight": str(2**31)}, "weight"),
        ({"weight[like]": "1"}, "weight[like]"),
        ({"is_open[gt]": "true"}, "is_open[gt]"),
        ({"is_open": "yes"}, "is_open"),
        ({"id": "x"}, "id"),
        ({"content": "{}"}, "content"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"packed_on": "yesterday"}, "packed_on"),
        ({"colour[null]": "maybe"}, "colour[null]"),
        ({"name": "x" * 501}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"weight[in]": ",".join("1" * (MAX_IN + 1))}, "weight[in]"),
        ({"filter": "{"}, "filter"),
        ({"filter": "[]"}, "filter"),
        ({"filter": '{"or":[]}'}, "filter"),
        ({"filter": '{"weight":[1]}'}, "filter"),
        ({"filter": '{"or":[' * MAX_DEPTH + '{"weight":1}' + "]}" * MAX_DEPTH}, "filter"),
        ({"filter": orjson.dumps({"or": [{"weight": 1}] * (MAX_CONDITIONS + 1)}).decode()}, "filter"),
        ({"sort": "input"}, "sort"),
        ({"sort": "weight,-weight"}, "sort"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"fields": "id,created_by"}, "fields"),
        ({"deleted": "1"}, "deleted"),
        ({"q": "x" * 101}, "q"),
    ],
)
async def test_what_may_not_be_asked(client: Client, query: dict[str, str], place: str) -> None:
    answer = await client.get("/v1/crates", query=query)
    assert answer.status == 422
    assert [error["loc"] for error in answer.json()["errors"]] == [["query", place]]


async def test_every_mistake_is_named_at_once(client: Client) -> None:
    answer = await client.get("/v1/crates", query={"size": 1, "weight": "x", "colour": "red"})
    assert [error["loc"][1] for error in answer.json()["errors"]] == ["size", "weight"]


@pytest.mark.parametrize(
    "sort", ["-created_at", "created_at", "weight", "-weight,name", "is_open,-weight,-name", "name"]
)
async def test_pages_show_every_row_once(client: Client, sort: str) -> None:
    whole = await listed(client, sort=sort)
    assert len(whole) == 9
    for limit in (1, 2, 4, 9):
        seen: list[int] = []
        query: dict[str, Any] = {"sort": sort, "limit": limit, "fields": "name"}
        while True:
            answer = await client.get("/v1/crates", query=query)
            seen += numbers(answer)
            if answer.json()["next_cursor"] is None:
                break
            query["cursor"] = answer.json()["next_cursor"]
        assert seen == whole


async def test_a_row_that_comes_meanwhile_moves_no_page(stage: Stage) -> None:
    caller = await stage.caller()
    client = stage.client(caller)
    async with stage.begin(caller) as uow:
        for i in range(4):
            await make_crate(uow, f"crate {i}", created_at=DAY + timedelta(hours=i))
    first = await client.get("/v1/crates", query={"limit": 2})
    async with stage.begin(caller) as uow:
        await make_crate(uow, "crate 9", created_at=DAY + timedelta(days=9))
    assert await listed(client, limit=2, cursor=first.json()["next_cursor"]) == [1, 0]


@pytest.mark.parametrize(
    "cursor", ["x", "W10", "WyItY3JlYXRlZF9hdCJd", "WyItY3JlYXRlZF9hdCIsIngiLCJ5Il0", "A" * 5000, "é"]
)
async def test_a_forged_cursor_is_refused(client: Client, cursor: str) -> None:
    assert (await client.get("/v1/crates", query={"cursor": cursor})).code == "bad_cursor"


async def test_a_cursor_belongs_to_its_order(client: Client) -> None:
    cursor = (await client.get("/v1/crates", query={"limit": 2})).json()["next_cursor"]
    assert (await client.get("/v1/crates", query={"cursor": cursor, "sort": "weight"})).code == "bad_cursor"


async def test_only_the_fields_asked_for(client: Client) -> None:
    answer = await client.get("/v1/crates", query={"fields": "name,content", "limit": 1})
    assert answer.json()["items"] == [{"name": "crate 8", "content": {"n": 8}}]


async def test_a_listed_row_is_what_its_model_would_write(stage: Stage, client: Client, caller: Caller) -> None:
    async with stage.begin(caller) as uow:
        page = await list_crates_of(uow, CRATES.all_of(limit=1))
        row = await uow.get(Crate, page.rows[0]["id"])
        expected = CrateOut.of(row).model_dump_json()
    shown = (await client.get("/v1/crates", query={"limit": 1})).json()["items"][0]
    assert shown == orjson.loads(expected)


@pytest.mark.parametrize("document", ["plain", [1, "two"], None, 3, {"ü": '"'}])
async def test_a_document_is_shown_as_it_is(stage: Stage, document: Any) -> None:
    caller = await stage.caller()
    async with stage.begin(caller) as uow:
        crate = await make_crate(uow, "crate 1")
    written = orjson.dumps(document).decode()
    await stage.database.sql("update crate set content = $2::text::jsonb where id = $1", crate.id, written)
    (item,) = (await stage.client(caller).get("/v1/crates")).json()["items"]
    assert item["content"] == document


async def test_strangers_see_nothing(stage: Stage, client: Client) -> None:
    stranger = stage.client(await stage.caller())
    assert await listed(stranger) == []
    assert (await stranger.get("/v1/crates/count")).json() == {"count": 0}
    cursor = (await client.get("/v1/crates", query={"limit": 2})).json()["next_cursor"]
    assert await listed(stranger, cursor=cursor) == []


async def test_own_means_own(stage: Stage) -> None:
    organization_id = await stage.organization()
    mine, other = [await stage.caller("developer", organization_id) for _ in range(2)]
    for number, who in enumerate((mine, other)):
        async with stage.begin(who) as uow:
            await make_crate(uow, f"crate {number}")
    permit = Permit("agent:read", own_only=True, owner_id=mine.owner_id)
    async with stage.begin(mine, permit) as uow:
        page = await list_crates_of(uow, CRATES.all_of())
        assert [row["name"] for row in page.rows] == ["crate 0"]
        with pytest.raises(ForbiddenError):
            Resource(Crate, own="owner").where(uow, CRATES.all_of(), {})


async def test_masked_fields_are_not_read(stage: Stage) -> None:
    caller = await stage.caller("viewer")
    async with stage.begin(caller) as uow:
        await make_crate(uow, "crate 1", input={"secret": 1})
    async with stage.begin(caller, Permit("run:read", own_only=False, owner_id="", masked=("input",))) as uow:
        page = await list_crates_of(uow, CRATES.all_of())
        assert page.rows[0]["input"] is None
        assert page.rows[0]["name"] == "crate 1"


async def test_fixed_columns_narrow_a_list(stage: Stage, caller: Caller) -> None:
    async with stage.begin(caller) as uow:
        page = await list_crates_of(uow, CRATES.all_of(), colour="red", weight=0)
    assert [row["name"] for row in page.rows] == ["crate 3", "crate 0"]


def test_mistakes_in_a_declaration_fail_at_once() -> None:
    with pytest.raises(TypeError, match="colour"):
        Resource(Crate, sorts=("created_at", "colour"))
    with pytest.raises(TypeError, match="size"):
        Resource(Crate, filters=("size",))
    with pytest.raises(TypeError, match="size"):
        Resource(Crate, words={"size": ("small",)})


def test_the_document_names_every_parameter(stage: Stage) -> None:
    operation = stage.service.api.openapi()["paths"]["/v1/crates"]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {
        "cursor", "fields", "filter", "sort", "q", "limit", "deleted",
        "id", "name", "colour", "weight", "is_open", "packed_on", "created_at", "content",
    }  # fmt: skip
    assert operation["x-permission"] == "agent:read"
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/PageOut_CrateOut_"}
