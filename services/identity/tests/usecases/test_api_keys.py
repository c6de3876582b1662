from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from services.identity.tests.stage import Home, Stage, permit

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.errors import ConflictError, ForbiddenError, InvalidError, LimitExceededError, NotFoundError
from contracts.api_keys import parse_key
from contracts.identity import ApiKeyCreated, ApiKeyRevoked, ApiKeyRotated
from identity.tables.api_keys import ApiKey
from identity.usecases import api_keys, users

pytestmark = pytest.mark.anyio


async def make(
    stage: Stage,
    caller: Caller,
    *,
    user: Caller | None = None,
    role: str | None = None,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    own_only = "developer" in caller.roles
    async with stage.begin(caller, permit(caller, "api_key:create", own_only=own_only)) as uow:
        return await api_keys.create_api_key(
            uow, name="k", user_id=user.user_id if user else None, role=role, scopes=scopes or [], expires_at=expires_at
        )


async def test_a_key_is_shown_once_and_stored_as_a_hash(stage: Stage, home: Home) -> None:
    developer = await stage.member(home, "developer")
    row, key = await make(stage, developer, scopes=["agent:read"])
    parsed = parse_key(key)
    assert parsed is not None
    assert (row.key_prefix, row.key_hash) == (parsed.key_prefix, parsed.secret_sha256)
    assert (row.user_id, row.role, row.created_by) == (developer.user_id, "developer", developer.owner_id)
    fact = (await stage.facts(ApiKeyCreated, organization_id=home.id))[-1]
    assert (fact.data["secret_sha256"], fact.data["scopes"]) == (parsed.secret_sha256, ["agent:read"])
    shown = await stage.client(developer).get(f"/v1/api-keys/{row.id}")
    assert parsed.secret_sha256.encode() not in shown.body
    assert key[17:49].encode() not in shown.body
    assert key[17:49] not in str(await stage.database.sql("select * from api_key where id = $1", row.id))


async def test_a_key_never_exceeds_its_owner(stage: Stage, home: Home) -> None:
    viewer = await stage.member(home, "viewer")
    for scope in ("agent:execute", "policy:*", "api_key:create"):
        if scope == "policy:*":
            await make(stage, home.owner, user=viewer, scopes=[scope])
            continue
        with pytest.raises(ForbiddenError) as refused:
            await make(stage, home.owner, user=viewer, scopes=[scope])
        assert refused.value.code == "scope_exceeds"
    with pytest.raises(InvalidError):
        await make(stage, home.owner, user=viewer, scopes=["moon:walk"])


async def test_a_key_never_exceeds_its_maker(stage: Stage, home: Home) -> None:
    admin = await stage.member(home, "org_admin")
    for attempt in (make(stage, admin, user=home.owner), make(stage, admin, role="org_owner")):
        with pytest.raises(ForbiddenError) as refused:
            await attempt
        assert refused.value.code == "owners_only"
    operator = await stage.member(home, "operator")  # let in by a rule of the organization
    with pytest.raises(ForbiddenError) as refused:
        await make(stage, operator, role="org_admin")
    assert refused.value.code == "role_exceeds_yours"


async def test_a_narrowed_key_makes_no_wider_one(stage: Stage, home: Home) -> None:
    narrowed = await stage.member(home, "org_admin", scopes=["api_key:*", "agent:read"])
    for scopes in ([], ["agent:execute"], ["agent:read", "run:read"], ["agent:*"]):
        with pytest.raises(ForbiddenError) as refused:
            await make(stage, narrowed, scopes=scopes)
        assert refused.value.code == "scope_exceeds"
    row, _ = await make(stage, narrowed, scopes=["agent:read", "api_key:create"])
    wide, _ = await make(stage, home.owner, user=narrowed)
    async with stage.begin(narrowed) as uow:
        await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(0))
        with pytest.raises(ForbiddenError):
            await api_keys.rotate_api_key(uow, wide.id, overlap=timedelta(0))


async def test_an_admin_gets_no_owners_key_by_rotating_an_old_one(stage: Stage, home: Home) -> None:
    """The key was made when its user was a developer; what it may do now is what its user may do now."""
    admin, rising = await stage.member(home, "org_admin"), await stage.member(home, "developer")
    row, _ = await make(stage, rising)
    assert rising.user_id
    async with stage.begin(home.owner) as uow:
        await users.update_user(uow, rising.user_id, expected_version=1, changes={"role": "org_owner"})
    async with stage.begin(admin) as uow:
        with pytest.raises(ForbiddenError) as refused:
            await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(0))
        assert refused.value.code == "owners_only"
        with pytest.raises(ForbiddenError):
            await api_keys.revoke_api_key(uow, row.id)
    async with stage.begin(home.owner) as uow:
        successor, _ = await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(0))
    assert successor.role == "org_owner"


async def test_a_developer_makes_keys_for_itself_alone(stage: Stage, home: Home) -> None:
    developer, other = await stage.member(home, "developer"), await stage.member(home, "viewer")
    with pytest.raises(NotFoundError):
        await make(stage, developer, user=other)
    with pytest.raises(ForbiddenError) as refused:
        await make(stage, developer, role="viewer")
    assert refused.value.code == "own_keys_only"
    theirs, _ = await make(stage, home.owner, user=other)
    mine, _ = await make(stage, home.owner, user=developer)
    client = stage.client(developer)
    assert (await client.post(f"/v1/api-keys/{theirs.id}/revoke")).status == 404
    assert [item["id"] for item in (await client.get("/v1/api-keys")).json()["items"]] == [str(mine.id)]
    assert (await client.get("/v1/api-keys/count")).json() == {"count": 1}
    assert (await client.post(f"/v1/api-keys/{mine.id}/revoke")).status == 200


async def test_keys_of_nobody_and_of_the_suspended_are_not_made(stage: Stage, home: Home) -> None:
    member = await stage.member(home, "viewer")
    assert member.user_id
    async with stage.begin(home.owner) as uow:
        await users.suspend_user(uow, member.user_id)
    with pytest.raises(ConflictError) as refused:
        await make(stage, home.owner, user=member)
    assert refused.value.code == "user_suspended"
    stranger = (await stage.home()).owner
    with pytest.raises(NotFoundError):
        await make(stage, home.owner, user=stranger)
    robot = Caller(home.id, "api_key", "some key", roles=frozenset(("org_admin",)))
    with pytest.raises(InvalidError) as unclear:
        await make(stage, robot)
    assert unclear.value.code == "role_required"
    with pytest.raises(InvalidError):
        await make(stage, robot, role="platform_admin")


async def test_a_rotated_key_works_on_for_the_overlap(stage: Stage, home: Home) -> None:
    row, key = await make(stage, home.owner, scopes=["run:read"])
    async with stage.begin(home.owner) as uow:
        successor, second = await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(hours=2))
        assert second != key
        assert (successor.scopes, successor.user_id, successor.expires_at) == (["run:read"], row.user_id, None)
        old = await api_keys.get_api_key(uow, row.id)
        assert (old.is_active, old.replaced_by, old.expires_at) == (True, successor.id, uow.now + timedelta(hours=2))
    rotated = (await stage.facts(ApiKeyRotated, organization_id=home.id))[-1]
    assert rotated.data["api_key_id"] == str(row.id)
    assert rotated.data["expires_at"] is not None
    async with stage.begin(home.owner) as uow:
        with pytest.raises(ConflictError) as refused:
            await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(0))
    assert refused.value.code == "api_key_rotated"


async def test_an_overlap_never_prolongs_and_has_its_limit(stage: Stage, home: Home) -> None:
    soon = utc_now() + timedelta(minutes=5)
    row, _ = await make(stage, home.owner, expires_at=soon)
    async with stage.begin(home.owner) as uow:
        for overlap in (api_keys.MAX_OVERLAP + timedelta(seconds=1), timedelta(seconds=-1)):
            with pytest.raises(InvalidError) as refused:
                await api_keys.rotate_api_key(uow, row.id, overlap=overlap)
            assert refused.value.code == "invalid_overlap"
        await api_keys.rotate_api_key(uow, row.id, overlap=api_keys.DEFAULT_OVERLAP)
        assert (await api_keys.get_api_key(uow, row.id)).expires_at == soon


async def test_what_is_over_is_over(stage: Stage, home: Home) -> None:
    with pytest.raises(InvalidError) as refused:
        await make(stage, home.owner, expires_at=utc_now() - timedelta(seconds=1))
    assert refused.value.code == "expires_in_the_past"
    expired, _ = await make(stage, home.owner)
    revoked, _ = await make(stage, home.owner)
    await stage.database.sql("update api_key set expires_at = now() - interval '1 s' where id = $1", expired.id)
    async with stage.begin(home.owner) as uow:
        first = await api_keys.revoke_api_key(uow, revoked.id)
        again = await api_keys.revoke_api_key(uow, revoked.id)
        assert (first.version, again.version) == (2, 2)
    async with stage.begin(home.owner) as uow:
        for row, code in ((expired, "api_key_expired"), (revoked, "api_key_revoked")):
            with pytest.raises(ConflictError) as conflict:
                await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(0))
            assert conflict.value.code == code
    assert len(await stage.facts(ApiKeyRevoked, organization_id=home.id)) == 1


async def test_the_number_of_working_keys_is_limited(stage: Stage, home: Home) -> None:
    copies = """insert into api_key select gen_random_uuid(), organization_id, user_id, name, role, key_prefix || n,
        key_hash, scopes, {expiry}, last_used_at, is_active, replaced_by, created_by, created_at, updated_at, version
        from api_key, generate_series({first}, {last}) n where organization_id = $1 and length(key_prefix) = 12"""
    await stage.database.sql(copies.format(expiry="now()", first=5000, last=5100), home.id)  # these are over
    await stage.database.sql(copies.format(expiry="null", first=2, last=api_keys.MAX_KEYS - 1), home.id)
    row, _ = await make(stage, home.owner)
    with pytest.raises(LimitExceededError) as refused:
        await make(stage, home.owner)
    assert refused.value.code == "too_many_api_keys"
    async with stage.begin(home.owner) as uow:
        with pytest.raises(LimitExceededError):
            await api_keys.rotate_api_key(uow, row.id, overlap=timedelta(0))
