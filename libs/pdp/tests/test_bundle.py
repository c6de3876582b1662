from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.pdp.tests.factories import ORGANIZATION, make_bundle, make_request, policy

from pdp.bundle import Assignee, Bundle, BundleDocument, BundleError
from pdp.decide import decide
from pdp.document import DocumentError

READ = 'actions: ["agent:read"]'
STOP = policy(f'{{rule_name: stop, effect: deny, {READ}, when: "resource.attr.secret"}}')
drawn = st.builds(
    BundleDocument,
    policy_id=st.uuids().map(str),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    priority=st.integers(0, 100),
    rules_yaml=st.sampled_from((STOP, policy(f"{{rule_name: let, effect: allow, {READ}}}"))),
    assignees=st.lists(
        st.builds(Assignee, st.sampled_from(("team", "user")), st.sampled_from("abc")), unique=True, max_size=3
    ).map(tuple),
    is_system=st.booleans(),
)
drawn_documents = st.lists(drawn, max_size=4, unique_by=lambda document: document.policy_id)


@given(drawn_documents, st.randoms(use_true_random=False))
def test_a_bundle_travels_as_bytes_and_decides_the_same(documents: list[BundleDocument], random: object) -> None:
    bundle = Bundle.compile(ORGANIZATION, 5, documents)
    arrived = Bundle.load(bundle.source(), bundle.sha256)
    assert arrived.source() == bundle.source()
    assert (arrived.revision, arrived.organization_id, arrived.sha256) == (5, ORGANIZATION, bundle.sha256)
    for secret in (True, False, None):
        request = make_request("agent:read", attr={"secret": secret}, teams=frozenset("a"), principal_id="b")
        assert decide(request, arrived) == decide(request, bundle)
    random.shuffle(documents)  # type: ignore[attr-defined]
    assert Bundle.compile(ORGANIZATION, 5, documents).source() == bundle.source()


def test_the_order_of_assignees_does_not_change_the_source() -> None:
    one, two = Assignee("team", "a"), Assignee("user", "b")
    first, second = (make_bundle(BundleDocument("p", "p", 1, STOP, order)) for order in ((one, two), (two, one)))
    assert first.source() == second.source()


def test_a_source_also_loads_as_text() -> None:
    bundle = make_bundle(STOP)
    assert Bundle.load(bundle.source().decode(), bundle.sha256).source() == bundle.source()


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"format": "other"}',
        b"\xff",
        b'{"format":"remit-bundle/1"}',
        b'{"format":"remit-bundle/1","documents":[{}],"organization_id":"a","revision":1}',
    ],
)
def test_what_is_no_bundle_is_refused(source: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.load(source)
    assert caught.value.code == "unknown_format"


def test_a_changed_source_is_refused() -> None:
    bundle = make_bundle(STOP)
    changed = bundle.source().replace(b"deny", b"allow")
    assert changed != bundle.source()
    with pytest.raises(BundleError) as caught:
        Bundle.load(changed, bundle.sha256)
    assert caught.value.code == "hash_mismatch"


def test_a_policy_that_does_not_hold_does_not_become_a_bundle() -> None:
    content = json.loads(make_bundle(STOP).source())
    content["documents"][0]["rules_yaml"] = policy("{rule_name: x}")
    with pytest.raises(DocumentError):
        Bundle.load(json.dumps(content))


def test_an_action_has_at_most_200_rules() -> None:
    half = policy(*(f"{{rule_name: r{index}, effect: deny, {READ}, when: 'false'}}" for index in range(100)))
    make_bundle(half, half)
    with pytest.raises(BundleError) as caught:
        make_bundle(half, half, policy('{rule_name: one-more, effect: deny, actions: ["agent:*"]}'))
    assert caught.value.code == "too_many_rules"


@pytest.mark.parametrize(
    ("documents", "code"),
    [
        ([BundleDocument("p", "a", 1, STOP), BundleDocument("p", "b", 1, STOP)], "duplicate_policy"),
        ([BundleDocument("p", "a", -1, STOP)], "priority_too_low"),
        (
            [BundleDocument(each, each, 1, "apiVersion: policy/v1\ntype: rbac\nroles: {boss: {}}") for each in "pq"],
            "duplicate_role",
        ),
    ],
)
def test_policies_that_do_not_go_together_are_refused(documents: list[BundleDocument], code: str) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.compile(ORGANIZATION, 1, documents)
    assert caught.value.code == code


def test_a_bundle_says_what_it_is_about() -> None:
    roles = "apiVersion: policy/v1\ntype: rbac\nroles: {boss: {inherits: [viewer], grants: ['agent:delete']}}"
    bundle = make_bundle(STOP, roles)
    assert bundle.has_rules("agent", "agent:read")
    assert bundle.has_rules("agent", "agent:delete")
    assert not bundle.has_rules("agent", "agent:update")
    assert not bundle.has_rules("run", "agent:read")
    assert bundle.custom_roles == {"boss"}
    assert [bundle.allowed(("boss",), each) for each in ("agent:delete", "agent:read", "agent:update")] == [
        "yes",
        "yes",
        "no",
    ]
