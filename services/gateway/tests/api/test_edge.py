from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from services.gateway.tests.factories import EdgeStage, Played

from contracts.api_keys import make_key
from contracts.identity import OrganizationSuspended, UserSuspended, UserUpdated
from spine.testing.client import Answer

pytestmark = pytest.mark.anyio


async def test_a_key_becomes_an_internal_token_and_never_goes_on(stage: EdgeStage) -> None:
    identity = Played()
    stage.play(identity=identity)
    holder = await stage.holder("developer", ["agent:read"])
    answer = await stage.get(holder.key, "/v1/users", x_other="kept", cookie="secret=1", x_forwarded_for="1.2.3.4")
    assert answer.status == 200
    asked = identity.asked[0]
    assert holder.key not in str(asked)
    assert asked["headers"]["x-other"] == "kept"
    assert not {"cookie", "x-forwarded-for", "connection"} & asked["headers"].keys()
    caller = stage.caller_of(asked["headers"], "identity")
    assert caller.organization_id == holder.organization_id
    assert (caller.kind, caller.id, caller.user_id) == ("api_key", str(holder.created.api_key_id), holder.user_id)
    assert (caller.roles, caller.scopes) == (frozenset({"developer"}), frozenset({"agent:read"}))


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/organizations/1", "identity"), ("/v1/users", "identity"), ("/v1/workspaces", "identity"),
        ("/v1/api-keys/1/rotate", "identity"), ("/v1/me", "identity"), ("/v1/platform/organizations", "identity"),
        ("/v1/platform/subscriptions/1", "billing"), ("/v1/subscription", "billing"), ("/v1/usage", "billing"),
        ("/v1/usage-events", "billing"), ("/v1/policies/simulate", "policy"), ("/v1/decisions", "policy"),
        ("/v1/agents", "execution"), ("/v1/orchestrations/apply", "execution"), ("/v1/runs/1/steps", "execution"),
        ("/v1/model-credentials", "execution"), ("/v1/audit-entries", "audit"), ("/v1/audit/coverage", "audit"),
        ("/v1/model-prices/1", "execution"), ("/v1/platform/audit/coverage", "audit"), ("/v1/roles", "policy"),
    ],
)  # fmt: skip
async def test_each_path_reaches_its_service(stage: EdgeStage, path: str, service: str) -> None:
    played = {name: Played() for name in ("identity", "billing", "policy", "execution", "audit")}
    stage.play(**played)
    holder = await stage.holder()
    assert (await stage.get(holder.key, path)).json() == {"path": path}
    assert [name for name, each in played.items() if each.asked] == [service]
    assert stage.caller_of(played[service].asked[0]["headers"], service).organization_id == holder.organization_id


async def test_body_query_and_answer_pass_unchanged(stage: EdgeStage) -> None:
    execution = Played({"/v1/agents": (201, {"id": "x"})})
    stage.play(execution=execution)
    holder = await stage.holder()
    answer = await stage.client(holder.key).request("POST", "/v1/agents", {"a": 1}, query={"q": "a b"})
    assert (answer.status, answer.json()) == (201, {"id": "x"})
    assert (execution.asked[0]["body"], execution.asked[0]["query"]) == (b'{"a":1}', "q=a+b")


async def test_who_says_nothing_or_nonsense_is_refused(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder()
    mistyped = holder.key[:-1] + ("a" if holder.key[-1] != "a" else "b")
    other_secret = make_key()[0]
    for key in (None, "", "nonsense", mistyped, other_secret):
        answer = await stage.get(key, "/v1/gateways")
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await stage.get(holder.key, "/v1/gateways")).status == 200


async def test_the_right_prefix_with_another_secret_is_nobody(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder()
    await stage.stage.database.sql(
        "update api_key set secret_sha256 = $1 where key_prefix = $2", "0" * 64, holder.parsed.key_prefix
    )
    assert (await stage.get(holder.key, "/v1/gateways")).status == 401


async def test_a_revoked_key_stops_within_two_seconds(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder()
    assert (await stage.get(holder.key, "/v1/gateways")).status == 200
    await stage.revoke(holder)
    assert await _becomes(stage, holder.key, 401) == "api_key_revoked"


async def test_a_late_fact_does_not_bring_a_revoked_key_back(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder()
    await stage.revoke(holder)
    await stage.stage.receive(holder.organization_id, holder.created)
    assert (await stage.get(holder.key, "/v1/gateways")).code == "api_key_revoked"


async def test_an_expired_key_is_refused(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder(expires_at=datetime.now(UTC) - timedelta(seconds=1))  # noqa: TID251
    answer = await stage.get(holder.key, "/v1/gateways")
    assert (answer.status, answer.code) == (401, "api_key_expired")


async def test_a_suspended_users_key_and_a_suspended_organizations_stop(stage: EdgeStage) -> None:
    stage.play()
    user, organization = await stage.holder(), await stage.holder()
    for each in (user, organization):
        assert (await stage.get(each.key, "/v1/gateways")).status == 200
    await stage.change_user(user, UserSuspended, 2, status="suspended")  # type: ignore[arg-type]
    assert await _becomes(stage, user.key, 401) == "user_suspended"
    fact = OrganizationSuspended(
        organization_id=organization.organization_id, version=2, name="Acme", slug="acme", status="suspended",
        plan_tier="free", created_by="x",
    )  # fmt: skip
    async with stage.stage.begin(await stage.stage.caller(organization_id=organization.organization_id)) as uow:
        from chassis.rules import project_status

        await project_status(uow, fact)
    assert await _becomes(stage, organization.key, 403) == "organization_suspended"


async def test_a_key_acts_with_its_owners_present_role(stage: EdgeStage) -> None:
    identity = Played()
    stage.play(identity=identity)
    holder = await stage.holder("org_admin")
    await stage.get(holder.key, "/v1/users")
    await stage.change_user(holder, UserUpdated, 2, role="viewer")
    await asyncio.sleep(1.05)
    await stage.get(holder.key, "/v1/users")
    roles = [stage.caller_of(asked["headers"], "identity").roles for asked in identity.asked]
    assert roles == [frozenset({"org_admin"}), frozenset({"viewer"})]


async def test_a_key_is_limited_and_others_are_not(stage: EdgeStage) -> None:
    stage.play()
    eager, calm = await stage.holder(), await stage.holder()
    answers = await asyncio.gather(*(stage.get(eager.key, "/v1/nothing") for _ in range(220)))
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert {answer.status for answer in answers} == {404, 429}
    assert refused[0].code == "rate_limited"
    assert int(refused[0].headers["retry-after"]) >= 1
    assert refused[0].headers["ratelimit-policy"] == '"key";q=50;w=1'
    assert refused[0].headers["ratelimit"] == '"key";r=0;t=1'
    assert (await stage.get(calm.key, "/v1/nothing")).status == 404


async def test_the_organizations_own_limit_holds(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder()
    client = stage.stage.client(await stage.stage.caller(organization_id=holder.organization_id))
    gateway = (await client.get("/v1/gateways")).json()["items"][0]
    changed = await client.request(
        "PATCH", f"/v1/gateways/{gateway['id']}", {"per_user_rate_limit": 2}, headers={"If-Match": '"1"'}
    )
    assert changed.json()["per_user_rate_limit"] == 2
    answers = await asyncio.gather(*(stage.get(holder.key, "/v1/nothing") for _ in range(10)))
    assert [answer.status for answer in answers].count(429) >= 5


async def test_unknown_routes_are_alike_for_all(stage: EdgeStage) -> None:
    stage.play(identity=Played())
    one, other = await stage.holder("viewer"), await stage.holder()
    answers = [await stage.get(key, "/v1/nothing/1", x_correlation_id="c") for key in (one.key, other.key)]
    bodies = [{**answer.json(), "trace_id": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert (answers[0].status, answers[0].code) == (404, "not_found")
    assert (await stage.get(None, "/nothing")).code == "not_found"


async def test_a_body_above_the_limit_is_refused(stage: EdgeStage) -> None:
    execution = Played()
    stage.play(execution=execution)
    holder = await stage.holder()
    large = b"x" * (1024 * 1024 + 1)
    assert (await stage.client(holder.key).post("/v1/agents", large)).code == "too_large"
    assert not execution.asked
    assert (await stage.client(holder.key).post("/v1/runs", large)).status == 200


async def test_a_service_that_is_not_there_is_a_503(stage: EdgeStage) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("not started")

    stage.play(identity=broken)
    holder = await stage.holder()
    answer = await stage.get(holder.key, "/v1/me")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "hop_down", "1")


async def test_traces_and_correlation_go_through(stage: EdgeStage) -> None:
    identity = Played()
    stage.play(identity=identity)
    holder = await stage.holder()
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await stage.get(holder.key, "/v1/me", traceparent=given, x_correlation_id="order-7")
    assert answer.headers["x-correlation-id"] == "order-7"
    await stage.get(holder.key, "/v1/me", traceparent="00-zz", x_correlation_id="a\x7fb")
    first, second = (asked["headers"] for asked in identity.asked)
    assert (first["traceparent"], first["x-correlation-id"]) == (given, "order-7")
    version, trace, parent, flags = second["traceparent"].split("-")
    assert (version, len(trace), len(parent), flags) == ("00", 32, 16, "00")
    assert second["x-correlation-id"] == trace
    refused = await stage.get(None, "/v1/me", traceparent=given)
    assert refused.json()["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_every_answer_carries_security_headers(stage: EdgeStage) -> None:
    stage.play(identity=Played())
    holder = await stage.holder()
    for answer in (await stage.get(holder.key, "/v1/me"), await stage.get(None, "/v1/me"), await stage.get(None, "/")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_cors_is_for_the_allowed_origins(stage: EdgeStage) -> None:
    stage.play(identity=Played())
    holder = await stage.holder()
    allowed = await stage.get(holder.key, "/v1/me", origin="https://console.example")
    assert allowed.headers["access-control-allow-origin"] == "https://console.example"
    assert "access-control-allow-credentials" not in allowed.headers
    stranger = await stage.get(holder.key, "/v1/me", origin="https://evil.example")
    assert "access-control-allow-origin" not in stranger.headers
    asks = {"origin": "https://console.example", "access-control-request-method": "PATCH"}
    preflight = await stage.client(None).request("OPTIONS", "/v1/runs", headers=asks)
    assert preflight.status == 204
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    asks["origin"] = "https://evil.example"
    preflight = await stage.client(None).request("OPTIONS", "/v1/runs", headers=asks)
    assert "access-control-allow-methods" not in preflight.headers


async def test_head_is_get_without_the_body(stage: EdgeStage) -> None:
    identity = Played()
    stage.play(identity=identity)
    holder = await stage.holder()
    answer = await stage.client(holder.key).request("HEAD", "/v1/me")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
    assert identity.asked[0]["method"] == "GET"


async def test_an_edge_cut_off_from_identity_believes_nobody(stage: EdgeStage) -> None:
    stage.play()
    holder = await stage.holder()
    assert (await stage.get(None, "/readyz")).status == 200
    await stage.stage.database.sql("insert into producer_freshness values ('identity', now() - interval '6 minutes')")
    try:
        answer = await stage.get(holder.key, "/v1/gateways")
        assert (answer.status, answer.code) == (503, "identity_stale")
        assert (await stage.get(None, "/readyz")).status == 503
    finally:
        await stage.stage.database.sql("delete from producer_freshness")
    assert (await stage.get(holder.key, "/v1/gateways")).status == 200


async def test_a_kill_switch_can_be_engaged_while_identity_is_silent_by_a_known_key_only(stage: EdgeStage) -> None:
    execution = Played()
    stage.play(execution=execution)
    holder, revoked = await stage.holder(), await stage.holder(expires_at=datetime.now(UTC) - timedelta(seconds=1))  # noqa: TID251
    unknown, _ = make_key()
    await stage.stage.database.sql("insert into producer_freshness values ('identity', now() - interval '6 minutes')")
    try:
        engage = {"scope": "organization"}
        assert (await stage.client(holder.key).post("/v1/kill-switches", engage)).status == 200
        assert execution.asked[-1]["path"] == "/v1/kill-switches"
        assert (await stage.client(revoked.key).post("/v1/kill-switches", engage)).status == 401
        for answer in (
            await stage.client(unknown).post("/v1/kill-switches", engage),
            await stage.client(holder.key).post("/v1/runs", {}),
            await stage.get(holder.key, "/v1/kill-switches"),
        ):
            assert (answer.status, answer.code) == (503, "identity_stale")
    finally:
        await stage.stage.database.sql("delete from producer_freshness")


async def _becomes(stage: EdgeStage, key: str, status: int) -> str:
    """The code of the refusal that comes within the two seconds that are promised."""
    async with asyncio.timeout(2):
        while True:
            answer: Answer = await stage.get(key, "/v1/gateways")
            if answer.status == status:
                return answer.code
            await asyncio.sleep(0.1)
