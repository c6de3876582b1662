from __future__ import annotations

import asyncio

import pytest
from services.identity.tests.factories import subscription
from services.identity.tests.stage import Home, Stage

from chassis.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from contracts.billing import SubscriptionUpdated
from contracts.identity import ApiKeyRevoked, UserUpdated
from identity.usecases import users
from identity.usecases.subscriptions import FREE_TIER_USERS

pytestmark = pytest.mark.anyio


async def invite(stage: Stage, home: Home, number: int = 0, role: str = "viewer") -> bool:
    """Whether there was room."""
    answer = await stage.client(home.owner).post("/v1/users", {"email": f"user{number}@acme.test", "role": role})
    assert answer.status == 201 or (answer.status, answer.code) == (429, "too_many_users")
    return answer.status == 201


async def test_an_unknown_subscription_is_the_free_tiers_and_the_number_holds_under_concurrency(
    stage: Stage, home: Home
) -> None:
    done = await asyncio.gather(*(invite(stage, home, number) for number in range(FREE_TIER_USERS + 4)))
    assert sum(done) == FREE_TIER_USERS - 1  # the owner is one of them
    count = await stage.database.value("select count(*) from app_user where organization_id = $1", home.id)
    assert count == FREE_TIER_USERS


async def test_the_subscriptions_number_of_users_is_obeyed(stage: Stage, home: Home) -> None:
    await stage.receive(home.id, subscription(SubscriptionUpdated, version=2, max_users=2))
    assert [await invite(stage, home, number) for number in range(2)] == [True, False]


async def test_an_address_is_one_users_whatever_its_case(stage: Stage, home: Home) -> None:
    async with stage.begin(home.owner) as uow:
        await users.invite_user(uow, email="Grace@acme.test", name="", role="viewer")
        with pytest.raises(ConflictError) as refused:
            await users.invite_user(uow, email="grace@ACME.test", name="", role="viewer")
        assert refused.value.code == "already_exists"
        await users.invite_user(uow, email="other@acme.test", name="", role="viewer")
    elsewhere = await stage.home()
    async with stage.begin(elsewhere.owner) as uow:
        await users.invite_user(uow, email="grace@acme.test", name="", role="viewer")


async def test_nobody_gets_a_role_that_is_not_there(stage: Stage, home: Home) -> None:
    async with stage.begin(home.owner) as uow:
        for role in ("platform_admin", "king"):
            with pytest.raises(InvalidError):
                await users.invite_user(uow, email="x@acme.test", name="", role=role)


async def test_the_last_active_owner_cannot_go(stage: Stage, home: Home) -> None:
    assert home.owner.user_id
    invited = await stage.member(home, "org_owner", status="invited")
    async with stage.begin(home.owner) as uow:
        for attempt in (
            users.suspend_user(uow, home.owner.user_id),
            users.delete_user(uow, home.owner.user_id),
            users.update_user(uow, home.owner.user_id, expected_version=1, changes={"role": "org_admin"}),
        ):
            with pytest.raises(ConflictError) as refused:
                await attempt
            assert refused.value.code == "last_owner"
    assert invited.user_id
    async with stage.begin(home.owner) as uow:
        await users.activate_user(uow, invited.user_id)
    async with stage.begin(invited) as uow:
        await users.delete_user(uow, home.owner.user_id)
    async with stage.begin(invited) as uow:
        with pytest.raises(ConflictError):
            await users.suspend_user(uow, invited.user_id)


async def test_two_owners_leaving_at_once_leave_one(stage: Stage, home: Home) -> None:
    other = await stage.member(home, "org_owner")

    client = stage.client(home.owner)
    answers = await asyncio.gather(*(client.delete(f"/v1/users/{one.user_id}") for one in (home.owner, other)))
    assert sorted((answer.status, answer.code) for answer in answers) == [(204, ""), (409, "last_owner")]
    assert await stage.database.value("select count(*) from app_user where organization_id = $1", home.id) == 1


async def test_an_admin_cannot_touch_owners(stage: Stage, home: Home) -> None:
    admin = await stage.member(home, "org_admin")
    assert home.owner.user_id
    assert admin.user_id
    async with stage.begin(admin) as uow:
        for attempt in (
            users.invite_user(uow, email="o@acme.test", name="", role="org_owner"),
            users.update_user(uow, home.owner.user_id, expected_version=1, changes={"name": "x"}),
            users.update_user(uow, admin.user_id, expected_version=1, changes={"role": "org_owner"}),
            users.suspend_user(uow, home.owner.user_id),
            users.activate_user(uow, home.owner.user_id),
            users.delete_user(uow, home.owner.user_id),
        ):
            with pytest.raises(ForbiddenError) as refused:
                await attempt
            assert refused.value.code == "owners_only"


@pytest.mark.parametrize("way", ["suspend_user", "delete_user"])
async def test_who_is_stopped_loses_the_keys(stage: Stage, home: Home, way: str) -> None:
    member = await stage.member(home, "developer")
    made = (await stage.client(member).post("/v1/api-keys", {"name": "mine"})).json()
    assert member.user_id
    async with stage.begin(home.owner) as uow:
        await getattr(users, way)(uow, member.user_id)
    (revoked,) = await stage.facts(ApiKeyRevoked, organization_id=home.id)
    assert (revoked.data["api_key_id"], revoked.data["is_active"]) == (made["id"], False)
    told = (await stage.types(home))[-2:]
    assert told == ["api_key.revoked.v1", f"user.{way.removesuffix('_user').removesuffix('e')}ed.v1"]


async def test_suspended_twice_and_back_again(stage: Stage, home: Home) -> None:
    member = await stage.member(home, "developer")
    assert member.user_id
    for use_case in (users.suspend_user, users.suspend_user, users.activate_user, users.activate_user):
        async with stage.begin(home.owner) as uow:
            user = await use_case(uow, member.user_id)
    assert (user.status, user.version) == ("active", 3)
    assert (await stage.types(home))[-2:] == ["user.suspended.v1", "user.activated.v1"]


async def test_a_change_of_role_is_told_without_name_or_address(stage: Stage, home: Home) -> None:
    member = await stage.member(home, "developer")
    assert member.user_id
    changes = {"role": "operator", "name": "Grace Hopper"}
    async with stage.begin(home.owner) as uow:
        await users.update_user(uow, member.user_id, expected_version=1, changes=changes)
    async with stage.begin(home.owner) as uow:
        await users.update_user(uow, member.user_id, expected_version=2, changes=changes)
    (fact,) = await stage.facts(UserUpdated, organization_id=home.id)
    assert fact.data == {"user_id": str(member.user_id), "version": 2, "role": "operator", "status": "active"}


async def test_others_do_not_exist(stage: Stage, home: Home) -> None:
    stranger = await stage.home()
    assert home.owner.user_id
    async with stage.begin(stranger.owner) as uow:
        for attempt in (
            users.get_user(uow, home.owner.user_id),
            users.suspend_user(uow, home.owner.user_id),
            users.delete_user(uow, home.owner.user_id),
        ):
            with pytest.raises(NotFoundError):
                await attempt
