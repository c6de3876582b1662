from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ConflictError, ForbiddenError, RefusalError
from policy.domain.approvals import ApprovalStatus, Asked, Person, expiry_of, is_named, is_repeated, require_may_decide

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ("role:operator", "role:org_admin", "user:u-1", "user:u-2")
asked_by = st.builds(
    Asked,
    status=st.sampled_from(ApprovalStatus),
    requester_ids=st.tuples(st.sampled_from(("u-1", "k-1")), st.sampled_from(("u-1", "u-3"))),
    approvers=st.lists(st.sampled_from(NAMES), max_size=2),
    approver_id=st.sampled_from((None, "u-1", "u-2")),
    digest=st.just("d"),
    expires_at=st.sampled_from((NOW - timedelta(seconds=1), NOW, NOW + timedelta(seconds=1))),
)
people = st.builds(
    Person,
    is_person=st.booleans(),
    ids=st.sampled_from((("u-1", "u-1"), ("u-2", "u-2"), ("k-1", "u-1"))),
    roles=st.lists(st.sampled_from(("operator", "org_admin", "developer")), max_size=2),
    decides_all=st.booleans(),
)


def refusal(asked: Asked, person: Person, digest: str | None = None) -> str:
    try:
        require_may_decide(asked, person, NOW, digest)
    except RefusalError as error:
        return error.code
    return ""


@given(asked_by, people, st.sampled_from((None, "d", "other")))
def test_only_another_person_who_is_named_decides_and_only_what_is_open(
    asked: Asked, person: Person, digest: str | None
) -> None:
    code = refusal(asked, person, digest)
    may = (
        person.is_person
        and not set(person.ids) & set(asked.requester_ids)
        and is_named(asked, person)
        and asked.status == "pending"
        and asked.expires_at > NOW
        and digest in (None, "d")
    )
    assert (code == "") is may


@given(st.none() | st.floats(60, 1e6), st.floats(-100, 1e6), st.none() | st.floats(60, 2.6e6))
def test_a_question_never_waits_longer_than_the_organization_says(
    seconds: float | None, until: float, most: float | None
) -> None:
    given = NOW + timedelta(seconds=until)
    expires_at = expiry_of(NOW, seconds=seconds, until=given, most_seconds=most)
    said = given if seconds is None else NOW + timedelta(seconds=seconds)
    assert expires_at <= said
    assert expires_at == said or (most is not None and expires_at == NOW + timedelta(seconds=most))


def make(**changes: Any) -> Asked:
    known: dict[str, Any] = {
        "status": "pending", "requester_ids": ("u-9", "u-9"), "approvers": (), "approver_id": None, "digest": "d",
        "expires_at": NOW + timedelta(hours=1),
    }  # fmt: skip
    return Asked(**(known | changes))


ADMIN = Person(True, ("u-1", "u-1"), ["org_admin"], decides_all=True)
OPERATOR = Person(True, ("u-2", "u-2"), ["operator"], decides_all=False)


@pytest.mark.parametrize(
    ("asked", "person", "code"),
    [
        (make(), ADMIN, ""),
        (make(), OPERATOR, "not_an_approver"),
        (make(approvers=["role:operator"]), OPERATOR, ""),
        (make(approvers=["role:operator"]), ADMIN, "not_an_approver"),
        (make(approvers=["user:u-2"]), OPERATOR, ""),
        (make(requester_ids=("k-1", "u-1")), ADMIN, "own_request"),
        (make(), ADMIN._replace(is_person=False), "not_a_person"),
        (make(status="expired"), ADMIN, "approval_expired"),
        (make(expires_at=NOW), ADMIN, "approval_expired"),
        (make(status="withdrawn"), ADMIN, "approval_withdrawn"),
        (make(status="rejected"), ADMIN, "already_decided"),
    ],
)
def test_each_refusal_says_why(asked: Asked, person: Person, code: str) -> None:
    assert refusal(asked, person) == code


def test_saying_it_again_is_no_second_decision() -> None:
    asked = make(status="approved", approver_id="u-1")
    assert is_repeated(asked, ADMIN, "approved")
    assert not is_repeated(asked, ADMIN, "rejected")
    assert not is_repeated(asked, OPERATOR, "approved")


def test_another_digest_is_refused_as_a_conflict() -> None:
    with pytest.raises(ConflictError) as refused:
        require_may_decide(make(), ADMIN, NOW, "other")
    assert refused.value.code == "digest_mismatch"
    with pytest.raises(ForbiddenError):
        require_may_decide(make(), OPERATOR, NOW, "other")
