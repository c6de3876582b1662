"""Gates: rules that ask people, what they oblige to, and what an approval opens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.pdp.tests.factories import make_bundle, make_request, policy
from libs.pdp.tests.test_decide import outcome, rule

from pdp.bundle import BundleDocument
from pdp.decide import decide
from pdp.problems import DocumentError

GATE = "approval: {approvers: {any_of: ['role:operator', 'role:org_admin']}, expires_in: 4h}"


def test_a_gate_is_kept_while_the_scan_goes_on_and_gives_no_right() -> None:
    bundle = make_bundle(
        policy(rule("require_approval", name="gate", extra=f", {GATE}, obligations: [{{notify: payday}}]"))
    )
    decision = decide(make_request(), bundle)
    assert outcome(decision) == ("require_approval", "gate")
    assert not decision.is_allowed
    assert decision.approval is not None
    assert decision.approval.approvers == {"role:operator", "role:org_admin"}
    assert decision.approval.expires_in_seconds == 4 * 3600
    assert decision.obligations == ({"notify": "payday"},)
    assert outcome(decide(make_request(roles=("viewer",)), bundle)) == ("deny", "default-deny")


def test_an_opened_gate_asks_no_more_and_a_denial_that_came_meanwhile_wins() -> None:
    gate, stop = (20, policy(rule("require_approval", name="gate"))), (10, policy(rule("deny", name="stop")))
    asked = decide(make_request(), make_bundle(gate)).approval
    assert asked is not None
    assert (asked.approvers, asked.expires_in_seconds) == (None, 24 * 3600)
    opened = decide(make_request(), make_bundle(gate), approved=asked.gates)
    assert outcome(opened) == ("allow", "role-matrix")
    assert outcome(decide(make_request(), make_bundle(gate, stop), approved=asked.gates)) == ("deny", "stop")
    other = make_bundle(gate, (10, policy(rule("require_approval", name="second"))))
    again = decide(make_request(), other, approved=asked.gates)
    assert (outcome(again), again.approval and again.approval.gates) == (
        ("require_approval", "second"), ("policy-0/gate", "policy-1/second"),
    )  # fmt: skip
    assert again.approval is not None
    assert outcome(decide(make_request(), other, approved=again.approval.gates)) == ("allow", "role-matrix")


def test_an_opened_gate_whose_condition_has_no_value_any_more_denies() -> None:
    bundle = make_bundle(policy(rule("require_approval", "resource.attr.cost > 1", name="gate")))
    asked = decide(make_request(attr={"cost": 2}), bundle).approval
    assert asked is not None
    assert outcome(decide(make_request(), bundle, approved=asked.gates)) == ("deny", "gate")


def test_several_gates_are_opened_by_whoever_may_open_all_within_the_shortest_time() -> None:
    wide = policy(rule("require_approval", name="wide", extra=f", {GATE}"))
    narrow = policy(
        rule(
            "require_approval",
            name="narrow",
            extra=", approval: {approvers: {any_of: ['role:operator']}, expires_in: 30m}",
        )
    )
    asked = decide(make_request(), make_bundle(wide, narrow)).approval
    assert asked is not None
    assert (asked.approvers, asked.expires_in_seconds) == ({"role:operator"}, 1800)
    assert asked.gates == ("policy-0/wide", "policy-1/narrow")
    owner = policy(
        rule("require_approval", name="owner", extra=", approval: {approvers: {any_of: ['role:org_owner']}}")
    )
    nobody = decide(make_request(), make_bundle(narrow, owner))
    assert (outcome(nobody), nobody.reason) == (("deny", "narrow"), "nobody_may_approve")


SPANS = {None: None, "30m": 1800, "24h": 86_400, "7d": 604_800}


@given(
    st.lists(st.sampled_from(list(SPANS)), min_size=1, max_size=3), st.lists(st.sampled_from(list(SPANS)), max_size=2)
)
def test_an_approval_waits_as_its_rules_say_and_at_most_as_long_as_the_organization(said: Any, most: Any) -> None:
    gates = [
        rule("require_approval", name=f"r{at}", extra=f", approval: {{expires_in: {span}}}" if span else "")
        for at, span in enumerate(said)
    ]
    heads = [f"approvals: {{expires_in: {span}}}" if span else "" for span in most]
    bundle = make_bundle(policy(*gates), *(policy(rule("allow", name="let"), head=head) for head in heads))
    asked = decide(make_request(), bundle).approval
    assert asked is not None
    own = min((SPANS[span] for span in most if span), default=None)
    wanted = min(SPANS[span] or own or 86_400 for span in said)
    assert asked.expires_in_seconds == (wanted if own is None else min(wanted, own))
    assert bundle.longest_approval_seconds == own


def test_only_rules_on_attributes_say_how_long_approvals_wait() -> None:
    with pytest.raises(DocumentError, match="abac"):
        make_bundle(policy(rule("allow"), type="rbac", head="approvals: {expires_in: 1h}"))


def test_a_gate_whose_condition_fails_denies() -> None:
    bundle = make_bundle(policy(rule("require_approval", "resource.attr.missing > 1", name="gate")))
    decision = decide(make_request(), bundle)
    assert (outcome(decision), decision.error) == (("deny", "gate"), True)
    known = decide(make_request(attr={"missing": 0}), bundle)
    assert outcome(known) == ("allow", "role-matrix")


capped_rule = st.tuples(
    st.sampled_from(("allow", "require_approval", "obligate")), st.sampled_from(("", "resource.attr.no")),
    st.integers(1, 9),
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(capped_rule, min_size=1, max_size=3)), max_size=4), st.data())
def test_an_approval_lifts_no_cap_of_the_rules_that_allow_or_gate(policies: list[Any], data: Any) -> None:
    documents, caps = [], []
    for index, (priority, rules) in enumerate(policies):
        lines = [
            rule(effect, when, name=f"r{place}", extra=f", obligations: [{{set: {{run.max_cost_usd: {cap}}}}}]")
            for place, (effect, when, cap) in enumerate(rules)
        ]
        documents.append(BundleDocument(f"policy-{index}", "drawn", priority, policy(*lines)))
        caps += [(priority, effect, cap) for effect, when, cap in rules if not when]
    end = max((priority for priority, effect, _ in caps if effect == "allow"), default=0)
    strictest = min((cap for priority, _, cap in caps if priority >= end), default=None)
    request, bundle = make_request(attr={"no": False}), make_bundle(*documents)
    gates = [f"policy-{n}/r{m}" for n, (_, rules) in enumerate(policies) for m in range(len(rules))]
    some = data.draw(st.lists(st.sampled_from(gates), unique=True)) if gates else []
    for approved in ((), some, gates):
        decision = decide(request, bundle, approved=approved)
        assert decision.limits().get("run.max_cost_usd") == strictest
        if approved is gates:
            assert decision.is_allowed
