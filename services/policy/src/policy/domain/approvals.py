"""Who may decide about what is asked, and what a decision changes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

from chassis.errors import ConflictError, ForbiddenError


class ApprovalStatus(StrEnum):
    """Where a request is: pending until somebody decides, it expires, or its run ends."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Withdrawal(StrEnum):
    """Why nobody has to decide any more."""

    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"
    RUN_TIMED_OUT = "run_timed_out"
    STEP_SKIPPED = "step_skipped"
    PROMOTION_REFUSED = "promotion_refused"


Outcome = Literal["approved", "rejected"]
_WITHDRAWN: dict[str, str] = {
    Withdrawal.RUN_FAILED: "the run has failed",
    Withdrawal.RUN_CANCELLED: "the run was cancelled",
    Withdrawal.RUN_TIMED_OUT: "the run's time was up",
    Withdrawal.STEP_SKIPPED: "the run goes on without this step",
    Withdrawal.PROMOTION_REFUSED: "the promotion cannot be done any more, or is asked for anew",
}


class Asked(NamedTuple):
    """What the rules need to know of a request."""

    status: str
    requester_ids: tuple[str, str]
    """Who asked, and whose the question is."""
    approvers: Collection[str]
    approver_id: str | None
    digest: str
    expires_at: datetime
    reason: str | None = None
    """Why it was withdrawn, or what whoever decided said."""


class Person(NamedTuple):
    """What they need to know of whoever decides."""

    is_person: bool
    """Also by a key of theirs; not a key of the organization itself."""
    ids: tuple[str, str]
    roles: Collection[str]
    decides_all: bool
    """Whether their role may decide about everything, not only where it is named."""


def expiry_of(now: datetime, *, seconds: float | None, until: datetime, most_seconds: float | None) -> datetime:
    """When a question expires that waits for so long, or else until then; never later than the organization says."""
    moment = until if seconds is None else now + timedelta(seconds=seconds)
    return moment if most_seconds is None else min(moment, now + timedelta(seconds=most_seconds))


def names_of(person: Person) -> set[str]:
    """What a request calls them where it names them as somebody who decides; a key of the organization has no name."""
    if not person.is_person:
        return set()
    return {*(f"role:{role}" for role in person.roles), *(f"user:{each}" for each in person.ids)}


def is_named(asked: Asked, person: Person) -> bool:
    """Whether a request names them: by one of their roles or as themselves; without names, who may decide about all."""
    if not asked.approvers:
        return person.decides_all
    return not names_of(person).isdisjoint(asked.approvers)


def is_repeated(asked: Asked, person: Person, outcome: Outcome) -> bool:
    """Whether they have said just that before: saying it again changes nothing."""
    return asked.status == outcome and asked.approver_id in person.ids


def require_may_decide(asked: Asked, person: Person, now: datetime, digest: str | None) -> None:
    """Refuse whoever must not decide, and what is not to be decided (any more)."""
    if not person.is_person:
        raise ForbiddenError("Approvals are given by people: use a key of a user.", code="not_a_person")
    if set(person.ids) & set(asked.requester_ids):
        raise ForbiddenError("Somebody other than the one who asks has to decide.", code="own_request")
    if not is_named(asked, person):
        raise ForbiddenError("You are not among those who may decide about this.", code="not_an_approver")
    if asked.status == ApprovalStatus.EXPIRED or (asked.status == ApprovalStatus.PENDING and asked.expires_at <= now):
        raise ConflictError("Nobody decided in time: the request has expired.", code="approval_expired")
    if asked.status == ApprovalStatus.WITHDRAWN:
        why = _WITHDRAWN.get(asked.reason or "", "its run has ended")
        raise ConflictError(f"Nobody has to decide about this any more: {why}.", code="approval_withdrawn")
    if asked.status != ApprovalStatus.PENDING:
        raise ConflictError(f"This request is {asked.status} already.", code="already_decided")
    if digest not in (None, asked.digest):
        raise ConflictError("What you saw is not what is asked: read the request again.", code="digest_mismatch")
