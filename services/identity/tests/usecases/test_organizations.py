from __future__ import annotations

import asyncio

import pytest
from services.identity.tests.stage import Home, Stage, permit

from chassis.errors import ConflictError, ForbiddenError, NotFoundError, StaleVersionError, VersionRequiredError
from chassis.ids import new_id
from contracts.api_keys import parse_key
from contracts.identity import OrganizationCreated, OrganizationRestated
from identity.tables.organizations import Organization
from identity.usecases import organizations, users
from identity.usecases.across import RESTATE, list_organizations
from identity.usecases.bootstrap import bootstrap

pytestmark = pytest.mark.anyio


async def test_an_organization_is_whole_from_the_first_second(stage: Stage, home: Home) -> None:
    assert await stage.types(home) == [
        "organization.created.v1", "user.created.v1", "workspace.created.v1", "api_key.created.v1",
    ]  # fmt: skip
    (created,) = await stage.facts(OrganizationCreated, organization_id=home.id)
    assert (created.data["status"], created.data["is_platform"]) == ("active", False)
    parsed = parse_key(home.api_key)
    assert parsed is not None
    row = (await stage.database.sql("select * from api_key where organization_id = $1", home.id))[0]
    assert (row["key_prefix"], row["key_hash"]) == (parsed.key_prefix, parsed.secret_sha256)
    assert (row["user_id"], row["role"]) == (home.owner.user_id, "org_owner")
    assert home.api_key[17:49] not in str([*row.values(), created.data])


async def test_a_slug_is_taken_for_ever_across_organizations(stage: Stage) -> None:
    home = await stage.home(slug="forever")
    async with stage.begin(stage.platform_admin()) as uow:
        await organizations.delete_organization_for_platform(uow, home.id)
    with pytest.raises(ConflictError) as refused:
        await stage.home(slug="forever")
    assert refused.value.code == "already_exists"
    assert await stage.database.value("select count(*) from organization where slug = 'forever'") == 1


async def test_update_says_what_changed_and_who_has_not_seen_it_is_told(stage: Stage, home: Home) -> None:
    async with stage.begin(home.owner) as uow:
        changed = await organizations.update_organization(uow, home.id, expected_version=1, changes={"name": "Acme 2"})
        assert (changed.name, changed.version) == ("Acme 2", 2)
    async with stage.begin(home.owner) as uow:
        same = await organizations.update_organization(uow, home.id, expected_version=2, changes={"name": "Acme 2"})
        assert same.version == 2
        with pytest.raises(StaleVersionError):
            await organizations.update_organization(uow, home.id, expected_version=1, changes={"name": "x"})
        with pytest.raises(VersionRequiredError):
            await organizations.update_organization(uow, home.id, expected_version=None, changes={"name": "x"})
    assert (await stage.types(home)).count("organization.updated.v1") == 1


async def test_suspended_resumed_deleted_and_each_only_once(stage: Stage, home: Home) -> None:
    async def act(name: str) -> None:
        async with stage.begin(stage.platform_admin()) as uow:
            await getattr(organizations, name)(uow, home.id)

    for name in (
        "resume_organization", "suspend_organization", "suspend_organization", "resume_organization",
        "delete_organization_for_platform", "delete_organization_for_platform",
    ):  # fmt: skip
        await act(name)
    told = [kind for kind in await stage.types(home) if kind.startswith("organization.")]
    assert told == [f"organization.{past}.v1" for past in ("created", "suspended", "resumed", "deleted")]
    for name in ("suspend_organization", "resume_organization"):
        with pytest.raises(ConflictError) as refused:
            await act(name)
        assert refused.value.code == "organization_deleted"


async def test_the_platform_finds_nothing_where_nothing_is(stage: Stage) -> None:
    for use_case in (
        organizations.get_organization_for_platform, organizations.suspend_organization,
        organizations.resume_organization, organizations.delete_organization_for_platform,
    ):  # fmt: skip
        async with stage.begin(stage.platform_admin()) as uow:
            with pytest.raises(NotFoundError):
                await use_case(uow, new_id())


async def test_a_rule_of_the_platform_is_asked_about_the_very_organization(stage: Stage, home: Home) -> None:
    caller = stage.platform_admin()
    may = permit(caller, "organization:suspend")
    asked = []

    def judge(kind: str, row_id: str, attributes: object) -> None:
        asked.append((kind, row_id))
        raise ForbiddenError("no")

    may.judge = judge
    async with stage.begin(caller, may) as uow:
        with pytest.raises(ForbiddenError):
            await organizations.suspend_organization(uow, home.id)
    assert asked == [("organization", str(home.id))]


async def test_lists_of_organizations_are_paged_without_holes(stage: Stage) -> None:
    made = [(await stage.home()).id for _ in range(3)]
    client, seen, cursor = stage.client(stage.platform_admin()), [], ""
    while cursor is not None:
        page = (
            await client.get("/v1/platform/organizations", query={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) == await stage.database.value("select count(*) from organization")
    assert {str(one) for one in made} <= set(seen)


async def test_bootstrap_happens_once_even_when_two_try(stage: Stage) -> None:
    # A database of its own would cost seconds; the platform's one row is made here and nowhere else in this module.
    async def once() -> tuple[object, str | None]:
        async with stage.begin(stage.platform_admin().within(new_id())) as uow:
            made = await bootstrap(uow, owner_email="operator@localhost")
            return made.organization_id, made.api_key

    first, second = await asyncio.gather(once(), once())
    third = await once()
    assert first[0] == second[0] == third[0]
    keys = [key for _, key in (first, second, third) if key]
    assert len(keys) == 1
    assert parse_key(keys[0]) is not None
    row = (await stage.database.sql("select * from organization where is_platform"))[0]
    assert (row["id"], row["slug"], row["plan_tier"]) == (first[0], "platform", "enterprise")
    role = await stage.database.value("select role from app_user where organization_id = $1", row["id"])
    assert role == "platform_admin"
    async with stage.begin(stage.platform_admin()) as uow:
        with pytest.raises(ConflictError) as refused:
            await organizations.suspend_organization(uow, row["id"])
        assert refused.value.code == "platform_organization"


async def test_each_noun_is_published_again_for_one_organization_or_all(stage: Stage, home: Home) -> None:
    other = await stage.home()
    before = {noun: len(await stage.facts(f"identity.{noun}.restated.v1")) for noun in RESTATE}
    assert set(before) == {"organization", "user", "workspace", "api_key"}
    for noun, restate in RESTATE.items():
        async with stage.begin(home.owner) as uow:
            assert await restate(uow, home.id) == 1
        (fact,) = await stage.facts(f"identity.{noun}.restated.v1", organization_id=home.id)
        assert fact.data["version"] == 1
        async with stage.begin(home.owner) as uow:
            everywhere = await restate(uow, None)
        restated = await stage.facts(f"identity.{noun}.restated.v1")
        assert len(restated) == before[noun] + 1 + everywhere
        assert everywhere >= await stage.database.value("select count(*) from organization")
        assert other.id in {fact.organization_id for fact in restated}
    told = await stage.facts(OrganizationRestated, organization_id=other.id)
    assert told[-1].data["organization_id"] == str(other.id)


async def test_all_organizations_come_in_pages(stage: Stage, home: Home) -> None:
    await stage.home()
    async with stage.begin(stage.platform_admin()) as uow:
        first = await list_organizations(uow, after=None, limit=1)
        assert len(first) == 2
        rest = await list_organizations(uow, after=first[0].id, limit=200)
    assert isinstance(first[0], Organization)
    assert first[0].id < rest[0].id == first[1].id
    assert home.id in {row.id for row in (*first, *rest)}


async def test_an_organization_that_is_not_there_is_not_found(stage: Stage) -> None:
    async with stage.begin(stage.platform_admin()) as uow:
        with pytest.raises(NotFoundError):
            await users.invite_user(uow, email="a@b.c", name="", role="viewer")
