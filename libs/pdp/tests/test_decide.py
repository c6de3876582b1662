from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.pdp.tests.factories import ORGANIZATION, make_bundle, make_request, policy

from pdp.bundle import Assignee, BundleDocument
from pdp.decide import Decision, RunContext, decide
from pdp.matrix import ORGANIZATION_ROLES, PERMISSIONS, allowed

EXECUTE = 'actions: ["agent:execute"]'
ALLOW = f"{{rule_name: let, effect: allow, {EXECUTE}, reason: because-allowed}}"
DENY = f"{{rule_name: stop, effect: deny, {EXECUTE}, reason: because-denied}}"


def rule(effect: str, when: str = "", *, name: str = "", extra: str = "") -> str:
    clause = f', when: "{when}"' if when else ""
    return f"{{rule_name: {name or effect}, effect: {effect}, {EXECUTE}{clause}{extra}}}"


def outcome(decision: Decision) -> tuple[str, str]:
    return decision.effect, decision.rule_name


# ---------------------------------------------------------------------------------------- the matrix, without a bundle


def test_an_organization_without_a_bundle_works() -> None:
    decision = decide(make_request(roles=("developer",)), None)
    assert (decision.effect, decision.rule_name, decision.reason) == ("allow", "role-matrix", "role:developer")
    assert (decision.bundle_revision, decision.policy_id) == (0, None)
    denied = decide(make_request(roles=("viewer",)), None)
    assert (denied.effect, denied.rule_name, denied.reason) == ("deny", "default-deny", "no_rule_allows")


@given(
    roles=st.sets(st.sampled_from(ORGANIZATION_ROLES)), action=st.sampled_from(sorted(PERMISSIONS)), mine=st.booleans()
)
def test_a_decision_agrees_with_the_matrix(*, roles: set[str], action: str, mine: bool) -> None:
    attr = {"created_by": "user-1" if mine else "user-2"}
    decision = decide(make_request(action, roles=tuple(roles), attr=attr), None)
    answer = allowed(roles, action)
    if answer != "own":
        assert decision.effect == ("allow" if answer == "yes" else "deny")
    elif not mine:
        assert decision.effect == "deny"
    assert not decision.own_only


def test_own_rows_only() -> None:
    mine, yours = {"created_by": "user-1"}, {"created_by": "user-2"}
    assert decide(make_request("run:cancel", attr=mine), None).is_allowed
    assert not decide(make_request("run:cancel", attr=yours), None).is_allowed
    assert not decide(make_request("run:cancel", attr={}), None).is_allowed


def test_a_question_about_a_kind_is_allowed_for_own_rows_and_says_so() -> None:
    decision = decide(make_request("run:read", id=""), None)
    assert (decision.effect, decision.own_only) == ("allow", True)
    assert not decide(make_request("run:read", id="", roles=("operator",)), None).own_only
    sandbox = make_request("connector:create", id="", attr={"environment_type": "production"})
    assert not decide(sandbox, None).is_allowed
    assert decide(
        replace(sandbox, resource=replace(sandbox.resource, attr={"environment_type": "sandbox"})), None
    ).is_allowed


def test_a_viewer_gets_runs_masked_and_the_stronger_role_wins() -> None:
    assert decide(make_request("run:read", roles=("viewer",)), None).masked() == ("input", "output")
    both = make_request("run:read", roles=("viewer", "developer"), attr={"created_by": "user-1"})
    assert decide(both, None).masked() == ()
    others = make_request("run:read", roles=("viewer", "developer"), attr={"created_by": "user-2"})
    assert decide(others, None).masked() == ("input", "output")


# -------------------------------------------------------------------------------------------------- guards come first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"organization_status": "suspended"}, "organization_suspended"),
        ({"organization_status": "deleted"}, "organization_deleted"),
        ({"action": "agent:fly"}, "unknown_permission"),
        ({"kind_of_resource": "run"}, "kind_mismatch"),
        ({"scopes": frozenset(("run:read", "run:*"))}, "scope_missing"),
        ({"principal_organization_id": "another"}, "organization_mismatch"),
        ({"organization_id": "another"}, "organization_mismatch"),
    ],
)
def test_guards_deny_whatever_the_rules_say(changes: dict[str, Any], reason: str) -> None:
    request = make_request(**{"action": "agent:execute", "roles": ("org_owner",), **changes})
    decision = decide(request, make_bundle(policy(ALLOW)))
    assert (decision.effect, decision.rule_name, decision.reason) == ("deny", "system-guard", reason)
    assert decision.bundle_revision == 7


@pytest.mark.parametrize("scope", ["agent:execute", "agent:*"])
def test_a_scope_that_covers_the_action_lets_the_roles_decide(scope: str) -> None:
    assert decide(make_request(scopes=frozenset((scope,))), None).is_allowed
    assert not decide(make_request(scopes=frozenset((scope,)), roles=("viewer",)), None).is_allowed


def test_the_bundle_of_another_organization_decides_nothing() -> None:
    request = make_request(principal_organization_id="other")
    foreign = replace(request, organization_id="other", resource=replace(request.resource, organization_id="other"))
    assert decide(foreign, make_bundle(policy(ALLOW))).reason == "organization_mismatch"


def test_the_platform_reaches_other_organizations_only_where_its_roles_do() -> None:
    assert decide(
        make_request("organization:suspend", roles=("platform_admin",), organization_id="another"), None
    ).is_allowed
    assert not decide(
        make_request("agent:read", roles=("platform_admin", "org_owner"), organization_id="another"), None
    ).is_allowed


@pytest.mark.parametrize("attr", [{"role": "org_owner"}, {"role": "viewer", "role_after": "org_owner"}])
def test_only_owners_touch_owners_whatever_a_policy_allows(attr: dict[str, str]) -> None:
    generous = make_bundle(policy('{rule_name: all, effect: allow, actions: ["user:*"]}'))
    for bundle in (None, generous):
        assert decide(make_request("user:update", roles=("org_admin",), attr=attr), bundle).reason == "owners_only"
        assert decide(make_request("user:update", roles=("org_owner",), attr=attr), bundle).is_allowed
    assert decide(make_request("user:update", roles=("org_admin",), attr={"role": "viewer"}), None).is_allowed


def test_an_admin_cannot_take_over_an_owners_key() -> None:
    request = make_request("api_key:rotate", roles=("org_admin",), attr={"owner_role": "org_owner"})
    assert decide(request, None).reason == "owners_only"


# ------------------------------------------------------------------------------------------------- order of the rules


def test_higher_priority_decides_and_at_equal_priority_deny_wins() -> None:
    assert outcome(decide(make_request(), make_bundle((20, policy(ALLOW)), (10, policy(DENY))))) == ("allow", "let")
    assert outcome(decide(make_request(), make_bundle((10, policy(ALLOW)), (20, policy(DENY))))) == ("deny", "stop")
    assert outcome(decide(make_request(), make_bundle((10, policy(ALLOW)), (10, policy(DENY))))) == ("deny", "stop")


def test_a_rule_widens_and_a_rule_narrows_the_matrix() -> None:
    assert decide(make_request(roles=("viewer",)), make_bundle(policy(ALLOW))).is_allowed
    assert not decide(make_request(roles=("org_owner",)), make_bundle((0, policy(DENY)))).is_allowed


def test_a_systems_denial_is_final() -> None:
    system = BundleDocument("system-1", "kill", 0, policy(DENY), is_system=True)
    decision = decide(make_request(), make_bundle((900, policy(ALLOW)), system))
    assert (outcome(decision), decision.policy_id) == (("deny", "stop"), "system-1")


def test_a_decision_names_its_rule_policy_reason_and_revision() -> None:
    decision = decide(make_request(), make_bundle((20, policy(DENY)), revision=41))
    assert decision == Decision("deny", "stop", "because-denied", 41, "policy-0")


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("principal.id == 'user-1'", True),
        ("'developer' in principal.roles && !principal.mfa", True),
        ("resource.attr.environment_type == 'production'", True),
        ("resource.kind == 'agent' && resource.id == 'row-1' && action == 'agent:execute'", True),
        ("run.estimated_cost_usd > 1 && run.depth == 2 && run.trigger == 'api'", True),
        ("has(run.model)", False),
        ("request.ip.startsWith('10.')", True),
        ("now.getHours('Europe/Berlin') == 10", True),
        ("now < timestamp(resource.attr.until)", True),
        ("principal.auth_age_s < 300 && principal.team == 'blue' && 'blue' in principal.teams", True),
        ("size(principal.chain) == 0 && principal.kind == 'user' && size(principal.scopes) == 0", True),
    ],
)
def test_conditions_see_the_request(when: str, *, expected: bool) -> None:
    request = make_request(
        attr={"environment_type": "production", "until": datetime(2027, 1, 1, tzinfo=UTC)},
        run=RunContext(estimated_cost_usd=1.5, depth=2, trigger="api"),
        request={"ip": "10.1.2.3"},
        team="blue",
        teams=frozenset(("blue", "red")),
    )
    assert decide(request, make_bundle(policy(rule("deny", when)))).is_allowed is not expected


def test_an_error_denies_in_a_denial_and_matches_nothing_in_an_allowance() -> None:
    broken = "resource.attr.missing == 1"
    denied = decide(make_request(), make_bundle(policy(rule("deny", broken))))
    assert (outcome(denied), denied.error) == (("deny", "deny"), True)
    ignored = decide(make_request(roles=("viewer",)), make_bundle(policy(rule("allow", broken))))
    assert (outcome(ignored), ignored.error) == (("deny", "default-deny"), False)


@pytest.mark.parametrize("value", ["true", 1, "NOT_FOUND", None, [True], {"a": True}])
def test_only_true_allows(value: object) -> None:
    bundle = make_bundle(policy(rule("allow", "resource.attr.flag")))
    assert not decide(make_request(roles=("viewer",), attr={"flag": value}), bundle).is_allowed
    assert decide(make_request(roles=("viewer",), attr={"flag": True}), bundle).is_allowed


def test_values_the_engine_cannot_hold_deny_in_a_denial_and_never_allow() -> None:
    attr = {"note": "fine\0hidden"}
    assert decide(make_request(attr=attr), make_bundle(policy(rule("deny", "resource.attr.note == 'x'")))).error
    assert not decide(
        make_request(roles=("viewer",), attr=attr), make_bundle(policy(rule("allow", "resource.attr.note == 'fine'")))
    ).is_allowed


def test_trees_of_conditions() -> None:
    text = policy(
        f"""
    rule_name: tree
    effect: deny
    {EXECUTE}
    when:
      all:
        - any: ["resource.attr.a", "resource.attr.b"]
        - none: ["resource.attr.c", "resource.attr.d"]""".strip()
    )
    bundle = make_bundle(text)
    for bits in range(16):
        a, b, c, d = (bool(bits & 1 << place) for place in range(4))
        denied = not decide(make_request(attr={"a": a, "b": b, "c": c, "d": d}), bundle).is_allowed
        assert denied is ((a or b) and not (c or d))


def test_a_root_that_is_used_whole_is_handed_over_whole() -> None:
    bundle = make_bundle(policy(rule("deny", "size(principal) == 9 && size(resource) == 3 && principal.mfa == false")))
    assert not decide(make_request(), bundle).is_allowed


def test_a_variable_may_end_in_a_comment() -> None:
    head = 'variables: {mine: "principal.id == resource.attr.owner // mine"}'
    bundle = make_bundle(policy(rule("deny", "!vars.mine && true"), head=head))
    assert decide(make_request(attr={"owner": "user-1"}), bundle).is_allowed
    assert not decide(make_request(attr={"owner": "user-2"}), bundle).is_allowed


def test_variables_speak_in_rules_and_build_on_each_other() -> None:
    head = "variables: {limit: '2 + 1', high: 'resource.attr.level > vars.limit'}"
    bundle = make_bundle(policy(rule("deny", "vars.high && principal.id != 'vars.limit'"), head=head))
    assert not decide(make_request(attr={"level": 4}), bundle).is_allowed
    assert decide(make_request(attr={"level": 3}), bundle).is_allowed


# --------------------------------------------------------------------------------------------------------- obligations


def duty(when: str = "", usd: float = 1.0, name: str = "duty") -> str:
    return rule("obligate", when, name=name, extra=f", obligations: [{{set: {{run.max_cost_usd: {usd}}}}}]")


def test_obligations_gather_from_every_priority_that_was_reached() -> None:
    bundle = make_bundle(
        (30, policy(duty(usd=3))),
        (20, policy(duty(usd=2), duty("false", usd=0.1, name="never"))),
        (0, policy(duty(usd=5))),
    )
    decision = decide(make_request(), bundle)
    assert decision.rule_name == "role-matrix"
    assert [each["set"]["run.max_cost_usd"] for each in decision.obligations] == [3, 2, 5]
    assert decision.limits() == {"run.max_cost_usd": 2}


def test_an_allow_ends_the_scan_and_brings_its_own_obligations() -> None:
    allow = rule("allow", extra=", obligations: [{notify: somebody}]")
    bundle = make_bundle((20, policy(allow, duty(usd=2))), (10, policy(duty(usd=1))))
    assert decide(make_request(), bundle).obligations == ({"set": {"run.max_cost_usd": 2}}, {"notify": "somebody"})


def test_every_allow_of_the_deciding_priority_brings_its_obligations() -> None:
    second = rule("allow", name="second", extra=", obligations: [{notify: somebody}]")
    decision = decide(make_request(), make_bundle(policy(rule("allow", name="first"), second)))
    assert (decision.rule_name, decision.obligations) == ("first", ({"notify": "somebody"},))


def test_a_duty_whose_condition_fails_is_kept() -> None:
    decision = decide(make_request(), make_bundle(policy(duty("resource.attr.missing == 1"))))
    assert (decision.effect, decision.error, decision.limits()) == ("allow", True, {"run.max_cost_usd": 1.0})


def test_a_denial_obliges_to_nothing() -> None:
    assert decide(make_request(), make_bundle((20, policy(duty())), (10, policy(DENY)))).obligations == ()


# --------------------------------------------------------------------------------------------------- who a rule is for


def test_rules_are_for_roles_and_policies_for_teams_and_users() -> None:
    operators = make_bundle(policy(rule("deny", extra=", roles: [operator]")))
    assert decide(make_request(roles=("developer",)), operators).is_allowed
    assert not decide(make_request(roles=("developer", "operator")), operators).is_allowed
    assigned = make_bundle(
        BundleDocument("p", "p", 10, policy(DENY), (Assignee("team", "red"), Assignee("user", "user-9")))
    )
    assert decide(make_request(teams=frozenset(("blue",))), assigned).is_allowed
    assert not decide(make_request(teams=frozenset(("blue", "red"))), assigned).is_allowed
    assert not decide(make_request(team="red"), assigned).is_allowed
    assert not decide(make_request(principal_id="user-9"), assigned).is_allowed
    assert decide(make_request(principal_id="red"), assigned).is_allowed


ROLES = """
apiVersion: policy/v1
type: rbac
roles:
  releaser: {inherits: [viewer], grants: ["deployment:activate"]}
rules:
  - {rule_name: no-releaser-runs, effect: deny, actions: ["agent:read"], roles: [releaser]}
"""


def test_custom_roles_stand_for_system_roles_and_add_permissions() -> None:
    bundle = make_bundle(ROLES)
    granted = decide(make_request("deployment:activate", roles=("releaser",)), bundle)
    assert (granted.effect, granted.reason, granted.policy_id) == ("allow", "role:releaser", "policy-0")
    assert decide(make_request("gateway:read", roles=("releaser",)), bundle).reason == "role:viewer"
    assert not decide(make_request("agent:read", roles=("releaser",)), bundle).is_allowed
    assert decide(make_request("agent:read", roles=("viewer",)), bundle).is_allowed
    assert not decide(make_request("deployment:activate", roles=("releaser",)), None).is_allowed
    assert not decide(
        make_request("deployment:activate", roles=("releaser",)),
        make_bundle(ROLES, (0, policy('{rule_name: no, effect: deny, actions: ["deployment:*"]}'))),
    ).is_allowed


# --------------------------------------------------------------------------------------------------------- explanation


def test_an_explanation_tells_the_truth_of_each_clause() -> None:
    text = policy(
        rule("deny", "resource.attr.level > 5", name="too-high"),
        f'{{rule_name: odd, effect: deny, {EXECUTE}, when: {{any: ["principal.mfa", "resource.attr.none == 1"]}}}}',
        rule("deny", "true", name="not-for-me", extra=", roles: [viewer]"),
    )
    decision = decide(make_request(attr={"level": 3}), make_bundle(text), explain=True)
    assert (decision.rule_name, decision.error) == ("odd", True)
    found = [(clause.rule_name, clause.text, clause.truth) for clause in decision.clauses]
    assert found == [
        ("too-high", "resource.attr.level > 5", False),
        ("odd", "principal.mfa", False),
        ("odd", "resource.attr.none == 1", None),
        ("role-matrix", "developer holds agent:execute: yes", True),
    ]
    assert "none" in decision.clauses[2].error
    assert decide(make_request(attr={"level": 3}), make_bundle(text)).clauses == ()


def test_an_explanation_survives_values_the_engine_cannot_hold() -> None:
    decision = decide(
        make_request(attr={"a": "\0"}), make_bundle(policy(rule("deny", "resource.attr.a == 'b'"))), explain=True
    )
    assert decision.clauses[0].truth is None
    assert "NUL" in decision.clauses[0].error


# ------------------------------------------------------------------------------- the whole order against a plain model

EFFECTS = ("allow", "deny", "obligate", "require_approval")
CONDITIONS = {"": True, "resource.attr.yes": True, "resource.attr.no": False, "resource.attr.missing": None}
drawn_rule = st.tuples(
    st.sampled_from(EFFECTS), st.sampled_from(sorted(CONDITIONS)), st.sampled_from(("", "viewer", "developer"))
)
drawn_policies = st.lists(
    st.tuples(st.integers(0, 3), st.lists(drawn_rule, min_size=1, max_size=4), st.booleans()), max_size=4
)


def expected_effect(policies: list[Any], role: str) -> tuple[str, int]:
    """The documented order, written down as plainly as can be: (effect, number of obligations)."""
    rules = [
        (priority, effect, CONDITIONS[when], system)
        for priority, rules, system in policies
        for effect, when, only in rules
        if only in ("", role)
    ]
    if any(system and effect == "deny" and truth is not False for _, effect, truth, system in rules):
        return "deny", 0
    duties, gated = 0, False
    for priority in (3, 2, 1, 0):
        here = [(effect, truth) for level, effect, truth, _ in rules if level == priority]
        if any(effect == "deny" and truth is not False for effect, truth in here):
            return "deny", 0
        if any(effect == "require_approval" and truth is None for effect, truth in here):
            return "deny", 0
        gated |= any(effect == "require_approval" and truth for effect, truth in here)
        duties += sum(effect == "obligate" and truth is not False for effect, truth in here)
        if any(effect == "allow" and truth is True for effect, truth in here):
            return "require_approval" if gated else "allow", duties
    return ("require_approval" if gated else "allow", duties) if role == "developer" else ("deny", 0)


def document_of(index: int, drawn: Any) -> BundleDocument:
    priority, rules, system = drawn
    lines = []
    for place, (effect, when, only) in enumerate(rules):
        extra = (", obligations: [{notify: me}]" if effect == "obligate" else "") + (
            f", roles: [{only}]" if only else ""
        )
        lines.append(rule(effect, when, name=f"r{place}", extra=extra))
    return BundleDocument(f"policy-{index}", "drawn", priority, policy(*lines), is_system=system)


@given(drawn_policies, st.sampled_from(("viewer", "developer")), st.randoms(use_true_random=False))
def test_every_bundle_decides_in_the_documented_order(policies: list[Any], role: str, random: Any) -> None:
    documents = [document_of(index, drawn) for index, drawn in enumerate(policies)]
    request = make_request(roles=(role,), attr={"yes": True, "no": False})
    decision = decide(request, make_bundle(*documents))
    effect, duties = expected_effect(policies, role)
    assert (decision.effect, len(decision.obligations)) == (effect, duties)
    random.shuffle(documents)
    assert decide(request, make_bundle(*documents)) == decision
    explained = decide(request, make_bundle(*documents), explain=True)
    assert replace(explained, clauses=()) == decision
    if decision.approval is not None:
        opened = decide(request, make_bundle(*documents), approved=decision.approval.gates)
        assert (opened.effect, opened.obligations) == ("allow", decision.obligations)


@given(drawn_policies, st.sampled_from(("viewer", "developer")))
def test_no_policy_lets_a_key_leave_its_scopes_or_its_organization(policies: list[Any], role: str) -> None:
    bundle = make_bundle(*(document_of(index, drawn) for index, drawn in enumerate(policies)))
    for changes in (
        {"scopes": frozenset(("run:read",))},
        {"organization_status": "suspended"},
        {"organization_id": "other"},
    ):
        assert not decide(make_request(roles=(role,), attr={"yes": True}, **changes), bundle).is_allowed
    assert bundle.organization_id == ORGANIZATION
