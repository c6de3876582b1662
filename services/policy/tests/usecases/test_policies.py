from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime

import pytest
from services.policy.tests.stage import ALLOW, DENY, FAILING, Stage

from chassis.caller import Caller
from chassis.errors import ConflictError, InvalidError, LimitExceededError, NotFoundError, StaleVersionError
from chassis.ids import new_id
from contracts.policy import BundlePublished, BundleRestated, PolicyDeleted, PolicyUpdated
from pdp.decide import DecisionRequest, Principal, Resource, decide
from policy.usecases import bundles, policies
from policy.usecases.across import restate_bundles

pytestmark = pytest.mark.anyio


async def verdict(stage: Stage, caller: Caller, role: str, *, user: str = "u", risk: str = "low") -> str:
    """What the organization's published bundle decides about running an agent."""
    organization_id = str(caller.organization_id)
    request = DecisionRequest(
        principal=Principal(id=user, kind="user", organization_id=organization_id, roles=frozenset((role,))),
        action="agent:execute",
        resource=Resource(kind="agent", id="a", organization_id=organization_id, attr={"risk_level": risk}),
        organization_id=organization_id,
        now=datetime(2026, 11, 22, tzinfo=UTC),
    )
    return decide(request, await stage.bundle(caller.organization_id)).effect


async def test_a_saved_policy_is_published_whole(stage: Stage, owner: Caller) -> None:
    policy = await stage.policy(owner)
    assert await stage.types(owner.organization_id) == ["policy.created.v1", "bundle.published.v1"]
    (fact,) = await stage.facts(BundlePublished, organization_id=owner.organization_id)
    assert fact.data["version"] == 1
    assert fact.data["source_sha256"] == hashlib.sha256(fact.data["source"].encode()).hexdigest()
    bundle = await stage.bundle(owner.organization_id)
    assert bundle is not None
    assert [document.policy_id for document in bundle.documents] == [str(policy.id)]
    assert await verdict(stage, owner, "developer", risk="high") == "deny"
    assert await verdict(stage, owner, "developer") == "allow"


async def test_each_change_is_the_next_revision(stage: Stage, owner: Caller) -> None:
    policy = await stage.policy(owner)
    await stage.policy(owner, "viewers", ALLOW)
    assert await verdict(stage, owner, "viewer") == "allow"
    steps = ({"is_enabled": False}, {"description": "asleep"}, {"is_enabled": True}, {"is_enabled": True})
    for expected, changes in enumerate(steps, 1):
        async with stage.begin(owner) as uow:
            changed = await policies.update_policy(uow, policy.id, expected_version=expected, changes=changes)
    assert (changed.version, changed.revision) == (4, 1)
    revisions = [
        fact.data["version"] for fact in await stage.facts(BundlePublished, organization_id=owner.organization_id)
    ]
    assert revisions == [1, 2, 3, 4]  # asleep, a policy's description concerns nobody
    assert len(await stage.facts(PolicyUpdated, organization_id=owner.organization_id)) == 3
    async with stage.begin(owner) as uow:
        await policies.delete_policy(uow, policy.id)
    assert await verdict(stage, owner, "developer", risk="high") == "allow"
    (fact,) = await stage.facts(PolicyDeleted, organization_id=owner.organization_id)
    assert fact.data["version"] == 5


async def test_new_rules_are_a_new_revision_of_the_policy(stage: Stage, owner: Caller) -> None:
    policy = await stage.policy(owner)
    rules = DENY.replace("high", "medium")
    async with stage.begin(owner) as uow:
        changed = await policies.update_policy(uow, policy.id, expected_version=1, changes={"rules_yaml": rules})
    assert (changed.revision, changed.rules_sha256) == (2, hashlib.sha256(rules.encode()).hexdigest())
    assert await verdict(stage, owner, "developer", risk="medium") == "deny"
    async with stage.begin(owner) as uow:
        with pytest.raises(StaleVersionError):
            await policies.update_policy(uow, policy.id, expected_version=1, changes={"rules_yaml": DENY})


async def test_wrong_rules_are_refused_by_line_and_column(stage: Stage, owner: Caller) -> None:
    with pytest.raises(InvalidError) as refused:
        await stage.policy(owner, rules_yaml=DENY.replace("resource.attr.risk_level", "resurce.attr"))
    assert refused.value.code == "invalid_policy"
    assert refused.value.errors[0]["line"] == 8
    assert refused.value.errors[0]["column"] > 4
    with pytest.raises(InvalidError) as refused:
        await stage.policy(owner, rules_yaml=ALLOW.replace("agent:execute", "organization:delete"))
    assert refused.value.errors[0]["code"] == "reserved_permission"
    obliged = "obligations: [{set: {run.max_tool_calls: 3}}]"
    obeyed_by_nobody = DENY.replace("effect: deny", "effect: obligate").replace("reason: too-risky", obliged)
    with pytest.raises(InvalidError) as refused:
        await stage.policy(owner, rules_yaml=obeyed_by_nobody)
    assert (refused.value.code, refused.value.errors[0]["line"]) == ("not_supported_yet", 9)
    with pytest.raises(InvalidError) as refused:
        await stage.policy(owner, policy_type="rbac")
    assert refused.value.code == "type_mismatch"
    assert await stage.types(owner.organization_id) == []


async def test_a_failing_test_inside_blocks_enabling_only(stage: Stage, owner: Caller) -> None:
    with pytest.raises(ConflictError) as refused:
        await stage.policy(owner, rules_yaml=FAILING)
    assert refused.value.code == "policy_tests_failed"
    assert refused.value.errors[0]["test"] == "a risky agent is not run"
    policy = await stage.policy(owner, rules_yaml=FAILING, is_enabled=False)
    assert await stage.bundle(owner.organization_id) is None
    async with stage.begin(owner) as uow:
        with pytest.raises(ConflictError):
            await policies.update_policy(uow, policy.id, expected_version=1, changes={"is_enabled": True})


async def test_a_policy_whose_rules_no_longer_hold_can_be_disabled(stage: Stage, owner: Caller) -> None:
    policy = await stage.policy(owner)
    await stage.database.sql("update policy set rules_yaml = 'apiVersion: policy/v0' where id = $1", policy.id)
    async with stage.begin(owner) as uow:
        changed = await policies.update_policy(uow, policy.id, expected_version=1, changes={"is_enabled": False})
    assert not changed.is_enabled
    bundle = await stage.bundle(owner.organization_id)
    assert bundle is not None
    assert bundle.documents == ()


async def test_a_name_is_taken_once_also_by_renaming(stage: Stage, owner: Caller) -> None:
    await stage.policy(owner, "one")
    other = await stage.policy(owner, "two", ALLOW)
    for attempt in (stage.policy(owner, "one", ALLOW), rename(stage, owner, other.id, "one")):
        with pytest.raises(ConflictError) as refused:
            await attempt
        assert refused.value.code == "already_exists"
    await stage.policy(await stage.caller(), "one")


async def rename(stage: Stage, caller: Caller, policy_id: object, name: str) -> None:
    async with stage.begin(caller) as uow:
        await policies.update_policy(uow, policy_id, expected_version=1, changes={"name": name})  # type: ignore[arg-type]


async def test_changes_at_once_become_one_revision_after_another(stage: Stage, owner: Caller) -> None:
    await asyncio.gather(
        *(stage.policy(owner, f"p{number}", ALLOW.replace("viewers", f"v{number}")) for number in range(4))
    )
    bundle = await stage.bundle(owner.organization_id)
    assert bundle is not None
    assert (bundle.revision, len(bundle.documents)) == (4, 4)
    facts = await stage.facts(BundlePublished, organization_id=owner.organization_id)
    assert sorted(fact.data["version"] for fact in facts) == [1, 2, 3, 4]


async def test_an_assigned_policy_is_for_the_assigned_alone(stage: Stage, owner: Caller) -> None:
    policy, user = await stage.policy(owner, "viewers", ALLOW), new_id()
    async with stage.begin(owner) as uow:
        bound = await policies.assign_policy(uow, policy.id, assignee_type="user", assignee_id=user)
    assert await verdict(stage, owner, "viewer") == "deny"
    assert await verdict(stage, owner, "viewer", user=str(user)) == "allow"
    async with stage.begin(owner) as uow:
        with pytest.raises(ConflictError):
            await policies.assign_policy(uow, policy.id, assignee_type="user", assignee_id=user)
        assert [row.id for row in await policies.list_policy_assignments(uow, policy.id)] == [bound.id]
    for _ in range(2):
        async with stage.begin(owner) as uow:
            await policies.unassign_policy(uow, policy.id, bound.id)
    assert await verdict(stage, owner, "viewer") == "allow"
    told = await stage.types(owner.organization_id)
    assert told.count("assignment.created.v1") == told.count("assignment.deleted.v1") == 1
    assert told.count("bundle.published.v1") == 3


async def test_an_assignment_goes_by_its_own_policy(stage: Stage, owner: Caller) -> None:
    first, second = await stage.policy(owner, "one"), await stage.policy(owner, "two", ALLOW)
    async with stage.begin(owner) as uow:
        bound = await policies.assign_policy(uow, first.id, assignee_type="team", assignee_id=new_id())
    async with stage.begin(owner) as uow:
        await policies.unassign_policy(uow, second.id, bound.id)
        assert len(await policies.list_policy_assignments(uow, first.id)) == 1
    async with stage.begin(await stage.caller()) as uow:
        with pytest.raises(NotFoundError):
            await policies.unassign_policy(uow, first.id, bound.id)


async def test_limits_of_number(stage: Stage, owner: Caller) -> None:
    policy = await stage.policy(owner, "one", is_enabled=False)
    await stage.database.sql(
        """insert into policy select gen_random_uuid(), organization_id, name || n, description, policy_type,
        rules_yaml, rules_sha256, revision, is_system, is_enabled, priority, created_by, created_at, updated_at, version
        from policy, generate_series(2, $2::int) n where organization_id = $1""",
        owner.organization_id, bundles.MAX_POLICIES,
    )  # fmt: skip
    with pytest.raises(LimitExceededError) as refused:
        await stage.policy(owner, "one more")
    assert refused.value.code == "too_many_policies"
    await stage.database.sql(
        """insert into policy_assignment select gen_random_uuid(), $1::uuid, $2::uuid, 'user', gen_random_uuid(), 'x',
        now() from generate_series(1, $3::int)""",
        owner.organization_id, policy.id, policies.MAX_ASSIGNMENTS,
    )  # fmt: skip
    async with stage.begin(owner) as uow:
        with pytest.raises(LimitExceededError) as refused:
            await policies.assign_policy(uow, policy.id, assignee_type="user", assignee_id=new_id())
    assert refused.value.code == "too_many_assignments"


@pytest.mark.parametrize(("filler", "fits"), [("x", 3), ('"', 1), ("\U0001f600", 3), ("\n#", 2)])
async def test_a_bundle_fits_into_one_fact(stage: Stage, owner: Caller, filler: str, fits: int) -> None:
    """What is escaped in the bundle is escaped once more in the fact; the limit refuses before the fact would."""
    long = ALLOW + "# " + filler * (60_000 // len(filler.encode()))
    for number in range(fits):
        await stage.policy(owner, f"number {number}", long.replace("viewers", f"v{number}"))
    with pytest.raises(LimitExceededError) as refused:
        await stage.policy(owner, "one more", long)
    assert refused.value.code == "bundle_too_large"
    await stage.policy(owner, "asleep", long, is_enabled=False)
    bundle = await stage.bundle(owner.organization_id)
    assert bundle is not None
    assert bundle.revision == fits


async def test_bundles_are_published_again_for_one_or_all(stage: Stage, owner: Caller) -> None:
    other, none = await stage.caller(), await stage.caller()
    for caller in (owner, other):
        await stage.policy(caller)
    async with stage.begin(none) as uow:
        assert await restate_bundles(uow, none.organization_id) == 0
    async with stage.begin(none) as uow:
        assert await restate_bundles(uow, owner.organization_id) == 1
    async with stage.begin(none) as uow:
        everywhere = await restate_bundles(uow, None)
    assert everywhere == await stage.database.value("select count(*) from policy_bundle")
    restated = await stage.facts(BundleRestated, organization_id=owner.organization_id)
    (published,) = await stage.facts(BundlePublished, organization_id=owner.organization_id)
    assert [fact.data for fact in restated] == [published.data] * 2
    assert len(await stage.facts(BundleRestated, organization_id=other.organization_id)) == 1
