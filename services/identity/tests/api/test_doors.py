"""What only the door does: bodies, headers, lists; the use cases have tests of their own."""

from __future__ import annotations

import pytest
from services.identity.tests.stage import Home, Stage

from chassis.caller import Caller
from contracts.chassis import REFUSED

pytestmark = pytest.mark.anyio


async def test_a_tenant_is_made_and_its_key_is_shown_once(stage: Stage) -> None:
    client = stage.client(stage.platform_admin())
    body = {"name": "Acme", "slug": "acme-door", "owner_email": "ada@acme.test", "plan_tier": "pro"}
    made = await client.post("/v1/organizations", body)
    assert made.status == 201
    assert made.json()["api_key"].startswith("rmt_")
    shown = await client.get(made.headers["location"])
    assert shown.status == 200
    assert shown.json() == {name: value for name, value in made.json().items() if name in shown.json()}
    assert "api_key" not in shown.json()
    again = await client.post("/v1/organizations", body)
    assert (again.status, again.code) == (409, "already_exists")


@pytest.mark.parametrize(
    "wrong",
    [
        {"slug": "Acme"}, {"slug": "-acme"}, {"slug": "a" * 64}, {"slug": "acme\n"}, {"plan_tier": "gold"},
        {"owner_email": "nobody"}, {"name": ""}, {"name": "x" * 201}, {"is_platform": True},
    ],
)  # fmt: skip
async def test_a_tenant_that_cannot_be_is_refused_by_name(stage: Stage, wrong: dict[str, object]) -> None:
    body = {"name": "Acme", "slug": "acme-wrong", "owner_email": "ada@acme.test"}
    answer = await stage.client(stage.platform_admin()).post("/v1/organizations", body | wrong)
    assert (answer.status, answer.code) == (422, "invalid")
    assert [error["loc"][-1] for error in answer.json()["errors"]] == list(wrong)


async def test_text_that_cannot_be_stored_is_the_callers_mistake(stage: Stage, home: Home) -> None:
    client = stage.client(home.owner)
    for name in ("a\0b", "a\ud800b"):
        body = b'{"email":"x@acme.test","name":"' + name.encode("unicode_escape").replace(b"\\x00", b"\\u0000") + b'"}'
        answer = await client.request("POST", "/v1/users", body)
        assert answer.status == 422, answer.body


async def test_me_says_who_is_asking_and_where_it_may_work(stage: Stage, home: Home) -> None:
    viewer = await stage.member(home, "viewer", scopes=["agent:read"])
    me = (await stage.client(viewer).get("/v1/me")).json()
    assert me == {
        "kind": "user", "id": viewer.id, "user_id": viewer.id, "name": "Member", "organization_id": str(home.id),
        "organization_name": "Acme", "organization_slug": me["organization_slug"], "is_platform": False,
        "roles": ["viewer"], "scopes": ["agent:read"],
        "workspaces": [{"id": str(home.workspace_id), "name": "development", "environment_type": "development"}],
    }  # fmt: skip
    robot = Caller(home.id, "api_key", "key of the organization", roles=frozenset(("operator",)))
    me = (await stage.client(robot).get("/v1/me")).json()
    assert (me["kind"], me["user_id"], me["name"], me["roles"]) == ("api_key", None, None, ["operator"])


async def test_changes_say_which_version_they_change(stage: Stage, home: Home) -> None:
    client = stage.client(home.owner)
    for path in (f"/v1/organizations/{home.id}", f"/v1/users/{home.owner.id}", f"/v1/workspaces/{home.workspace_id}"):
        shown = await client.get(path)
        assert shown.headers["etag"] == '"1"'
        assert (await client.patch(path, {"name": "new"})).status == 428
        assert (await client.patch(path, {"name": "new"}, headers={"If-Match": '"7"'})).status == 412
        changed = await client.patch(path, {"name": "new"}, headers={"If-Match": shown.headers["etag"]})
        assert (changed.status, changed.headers["etag"], changed.json()["name"]) == (200, '"2"', "new")
        assert (await client.patch(path, {"name": None}, headers={"If-Match": '"2"'})).status == 422
        assert (await client.patch(path, {"id": "x"}, headers={"If-Match": '"2"'})).status == 422


async def test_a_picture_can_be_taken_away(stage: Stage, home: Home) -> None:
    client, path = stage.client(home.owner), f"/v1/users/{home.owner.id}"
    await client.patch(path, {"avatar_url": "https://acme.test/ada.png"}, headers={"If-Match": '"1"'})
    changed = await client.patch(path, {"avatar_url": None}, headers={"If-Match": '"2"'})
    assert changed.json()["avatar_url"] is None


async def test_lists_are_filtered_counted_and_of_one_organization(stage: Stage, home: Home) -> None:
    await stage.member(await stage.home(), "viewer")
    for role in ("viewer", "viewer", "developer"):
        await stage.member(home, role)
    client = stage.client(home.owner)
    found = (await client.get("/v1/users", query={"role": "viewer", "limit": 1})).json()
    assert len(found["items"]) == 1
    rest = (await client.get("/v1/users", query={"role": "viewer", "cursor": found["next_cursor"]})).json()
    assert [item["role"] for item in (*found["items"], *rest["items"])] == ["viewer", "viewer"]
    assert rest["next_cursor"] is None
    assert (await client.get("/v1/users/count")).json() == {"count": 4}
    assert (await client.get("/v1/users/count", query={"role": "viewer"})).json() == {"count": 2}
    assert (await client.get("/v1/workspaces/count")).json() == {"count": 1}
    assert (await client.get("/v1/users", query={"sso_provider_id": "x"})).status == 422


async def test_a_key_is_rotated_without_a_body_and_within_limits(stage: Stage, home: Home) -> None:
    client = stage.client(home.owner)
    made = (await client.post("/v1/api-keys", {"name": "k"})).json()
    path = f"/v1/api-keys/{made['id']}/rotate"
    for seconds in (-1, 30 * 86_400 + 1, 2**63 - 1):
        assert (await client.post(path, {"overlap_seconds": seconds})).status == 422
    rotated = await client.post(path)
    assert rotated.status == 201
    assert rotated.json()["api_key"] != made["api_key"]
    old = (await client.get(f"/v1/api-keys/{made['id']}")).json()
    assert (old["is_active"], old["replaced_by"]) == (True, rotated.json()["id"])


async def test_a_time_without_a_zone_is_refused(stage: Stage, home: Home) -> None:
    body = {"name": "k", "expires_at": "2027-01-01T00:00:00"}
    assert (await stage.client(home.owner).post("/v1/api-keys", body)).status == 422
    assert (
        await stage.client(home.owner).post("/v1/api-keys", body | {"expires_at": "2999-01-01T00:00:00Z"})
    ).status == 201


async def test_a_refusal_by_a_use_case_is_published_too(stage: Stage, home: Home) -> None:
    answer = await stage.client(home.owner).delete(f"/v1/users/{home.owner.id}")
    assert (answer.status, answer.code) == (409, "last_owner")
    (fact,) = await stage.facts(REFUSED["identity"], organization_id=home.id)
    assert (fact.data["operation"], fact.data["code"], fact.data["resource_id"]) == (
        "delete_user", "last_owner", home.owner.id,
    )  # fmt: skip
