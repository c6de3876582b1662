"""The matrix against an independent reading of the design's table, and what holds of any matrix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.matrix import (
    GRANTS,
    ORGANIZATION_ROLES,
    PERMISSIONS,
    PLATFORM_ROLES,
    RESERVED,
    ROLES,
    allowed,
    expand,
    holds,
    masked_fields,
)

some_roles = st.sets(st.sampled_from(sorted(ROLES)))
some_permission = st.sampled_from(sorted(PERMISSIONS))

# permission -> answers of org_owner, org_admin, developer, operator, viewer: y(es), o(wn), n(o).
TABLE = {
    "organization:read": "yyyyy",
    "organization:update": "yynnn",
    "organization:delete": "ynnnn",
    "organization:create": "nnnnn",
    "organization:suspend": "nnnnn",
    "subscription:read": "yynnn",
    "subscription:update": "ynnnn",
    "usage:read": "yyoyo",
    "budget:update": "yynnn",
    "user:update": "yynnn",
    "team:read": "yyyyy",
    "team:update": "yyonn",
    "sso:read": "yynnn",
    "scim:update": "yynnn",
    "api_key:read": "yyoon",
    "api_key:create": "yyonn",
    "api_key:rotate": "yyonn",
    "policy:read": "yyyyy",
    "policy:update": "yynnn",
    "policy:simulate": "yyyyn",
    "approval:read": "yyoyo",
    "approval:decide": "yyoon",
    "workspace:update": "yynnn",
    "workspace:update_limits": "yynyn",
    "gateway:operate": "yynyn",
    "deployment:create": "yyynn",
    "deployment:activate": "yyoyn",
    "deployment:rollback": "yynyn",
    "connector:query": "yyonn",
    "connector:create": "yyonn",
    "connector:disable": "yynyn",
    "agent:create": "yyynn",
    "agent:read": "yyyyy",
    "agent:update": "yyonn",
    "agent:delete": "yynnn",
    "agent:execute": "yyyyn",
    "orchestration:execute": "yyyyn",
    "run:read": "yyoyy",
    "run:cancel": "yyoyn",
    "run:fork": "yyoyn",
    "run:signal": "yyoyn",
    "step:read": "yyoyy",
    "schedule:create": "yyonn",
    "schedule:pause": "yyoyn",
    "kill_switch:engage": "yynyn",
    "kill_switch:release": "yynnn",
    "kill_switch:read": "yynyy",
    "erasure:create": "yynnn",
    "legal_hold:release": "yynnn",
    "model_credential:use": "yyynn",
    "model_credential:read": "yynnn",
    "model_price:update": "yynnn",
    "model_price:read": "yyyyy",
    "allowed_host:create": "yynnn",
    "allowed_host:read": "yyyyy",
    "audit:read": "yyoyn",
    "audit:export": "yynnn",
    "decision:read": "yyoyn",
    "compliance:create": "yynnn",
    "compliance:read": "yynyn",
    "webhook:redeliver": "yynyn",
    "webhook:read": "yyyyn",
    "notification:read": "ooooo",
    "platform:read": "nnnnn",
}


@pytest.mark.parametrize(("permission", "answers"), TABLE.items())
def test_organization_roles_hold_what_the_table_says(permission: str, answers: str) -> None:
    found = "".join(allowed((role,), permission)[0] for role in ORGANIZATION_ROLES)
    assert found == answers


@pytest.mark.parametrize(
    ("permission", "answers"),
    [
        ("organization:create", "ynn"),
        ("organization:suspend", "ynn"),
        ("platform:read", "yyy"),
        ("platform:coverage", "yny"),
        ("platform:replay", "yyn"),
        ("platform:engage", "yyn"),
        ("platform:rotate", "ynn"),
        ("agent:read", "nnn"),
        ("run:read", "nnn"),
    ],
)
def test_platform_roles_reach_the_platform_and_nothing_inside_an_organization(permission: str, answers: str) -> None:
    assert "".join(allowed((role,), permission)[0] for role in PLATFORM_ROLES) == answers


def test_reserved_is_what_only_owners_and_the_platform_hold() -> None:
    assert {"organization:delete", "subscription:update", "organization:create", "platform:replay"} <= RESERVED
    assert not {"organization:update", "agent:execute", "policy:update", "subscription:read"} & RESERVED


@given(some_roles, st.text(max_size=20))
def test_an_unknown_permission_is_never_held(roles: set[str], permission: str) -> None:
    if permission not in PERMISSIONS:
        assert allowed(roles, permission) == "no"


@given(some_permission, st.text(max_size=12).filter(lambda role: role not in ROLES))
def test_an_unknown_role_holds_nothing(permission: str, role: str) -> None:
    assert allowed((role,), permission) == "no"


@given(some_roles, some_roles, some_permission)
def test_another_role_never_takes_a_right_away(roles: set[str], more: set[str], permission: str) -> None:
    order = ["no", "own", "yes"]
    assert order.index(allowed(roles | more, permission)) >= order.index(allowed(roles, permission))


@given(some_roles, some_permission)
def test_fields_are_masked_only_where_no_role_shows_them(roles: set[str], permission: str) -> None:
    masked = masked_fields(roles, permission)
    assert bool(masked) == ({GRANTS[permission].get(role) for role in roles} - {None} == {"masked"})


def test_a_viewer_sees_runs_masked_and_an_operator_whole() -> None:
    assert masked_fields(("viewer",), "run:read") == ("input", "output")
    assert masked_fields(("viewer", "operator"), "run:read") == ()


@pytest.mark.parametrize(
    ("grant", "attr", "expected"),
    [
        ("own", {"owner_id": "me"}, True),
        ("own", {"created_by": "me"}, True),
        ("own", {"owner_id": "you", "created_by": "me"}, True),
        ("own", {"created_by": "you"}, False),
        ("own", {}, None),
        ("lead", {"lead_ids": ["you", "me"]}, True),
        ("lead", {"created_by": "me"}, None),
        ("named", {"approver_ids": ("you",)}, False),
        ("sandbox", {"environment_type": "sandbox"}, True),
        ("sandbox", {"environment_type": "production"}, False),
        ("sandbox", {}, None),
        ("yes", {}, True),
    ],
)
def test_grants_that_depend_on_the_row(grant: str, attr: dict[str, object], *, expected: bool | None) -> None:
    assert holds(grant, "me", attr) is expected  # type: ignore[arg-type]


def test_patterns_name_permissions() -> None:
    assert expand("agent:execute") == {"agent:execute"}
    assert expand("approval:*") == {"approval:read", "approval:decide"}
    assert expand("*") == expand("agent:fly") == expand("nothing:*") == expand("") == frozenset()
