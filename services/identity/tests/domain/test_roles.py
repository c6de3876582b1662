from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ForbiddenError, InvalidError
from identity.domain.roles import covers, owner_role, require_may_touch, require_role, require_scopes, roles_of
from pdp.matrix import ORGANIZATION_ROLES, PERMISSIONS, PLATFORM_ROLES, allowed

ROLES = st.sampled_from(ORGANIZATION_ROLES)


def test_the_platform_has_roles_of_its_own() -> None:
    require_role("developer", is_platform=False)
    require_role("platform_auditor", is_platform=True)
    for role, is_platform in (("platform_admin", False), ("developer", True), ("king", False)):
        with pytest.raises(InvalidError) as refused:
            require_role(role, is_platform=is_platform)
        assert refused.value.code == "unknown_role"


@given(ROLES)
def test_owners_and_admins_cover_everybody_below(role: str) -> None:
    assert covers(["org_owner"], role)
    assert covers(["org_admin"], role) == (role != "org_owner")
    assert covers([role], role)


def test_a_viewer_covers_no_other_role() -> None:
    assert [role for role in ORGANIZATION_ROLES if covers(["viewer"], role)] == ["viewer"]
    assert not covers([], "viewer")


@pytest.mark.parametrize("is_platform", [True, False])
def test_only_owners_touch_owners(*, is_platform: bool) -> None:
    owner = owner_role(is_platform=is_platform)
    require_may_touch([owner], owner)
    for role in set(roles_of(is_platform=is_platform)) - {owner}:
        require_may_touch([owner], role)
        with pytest.raises(ForbiddenError) as refused:
            require_may_touch([role], role, owner)
        assert refused.value.code == "owners_only"


def test_a_tenants_owner_is_no_owner_of_the_platform() -> None:
    with pytest.raises(ForbiddenError):
        require_may_touch(["org_owner"], "platform_admin")
    with pytest.raises(ForbiddenError):
        require_may_touch(["platform_admin"], "org_owner")


def test_who_was_allowed_more_by_a_rule_still_makes_nobody_stronger() -> None:
    require_may_touch(["operator"], "operator")
    with pytest.raises(ForbiddenError) as refused:
        require_may_touch(["operator"], "viewer", "org_admin")
    assert refused.value.code == "role_exceeds_yours"


@given(st.sampled_from(ORGANIZATION_ROLES + PLATFORM_ROLES), st.sampled_from(sorted(PERMISSIONS)))
def test_a_scope_is_held_or_refused(role: str, scope: str) -> None:
    if allowed([role], scope) == "no":
        with pytest.raises(ForbiddenError) as refused:
            require_scopes([scope], [role])
        assert refused.value.code == "scope_exceeds"
    else:
        require_scopes([scope], [role])


@pytest.mark.parametrize("scope", ["agent", "agent:", "agent:fly", "dragon:*", "*", ":*", "", "agent:*:x"])
def test_unknown_scopes_are_refused(scope: str) -> None:
    with pytest.raises(InvalidError) as refused:
        require_scopes([scope], ["org_owner"])
    assert refused.value.code == "unknown_scope"


def test_a_wildcard_needs_one_permission_of_its_noun() -> None:
    require_scopes(["agent:*"], ["viewer"])
    with pytest.raises(ForbiddenError):
        require_scopes(["platform:*"], ["org_owner"])
