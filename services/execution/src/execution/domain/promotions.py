"""Promotions: what a version that comes from another workspace means for what is there already, and who is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import orjson

from chassis.errors import ConflictError
from execution.domain.versions import is_higher


class Promotion(StrEnum):
    """What has to be done to bring a version into a workspace."""

    SAVE = "save"
    POINT = "point"
    """It is there, and another one runs."""
    NOTHING = "nothing"


class PromotionStatus(StrEnum):
    """Where a promotion is that somebody has to approve."""

    PENDING = "pending"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    """Approved, but it could not be done any more; or nobody is asked any more."""


class There(NamedTuple):
    """What the workspace has of the agent."""

    current: str
    highest: str
    digest: str | None
    """Of the version there that has the number of the one that comes; None where none has."""


def require_path(*, from_workspace: UUID, promotion_from: UUID | None) -> None:
    """ConflictError `no_promotion_path` where no path leads there."""
    if promotion_from != from_workspace:
        detail = "No path leads there: its workspace takes promotions from another one, or from none (promotion_from)."
        raise ConflictError(detail, code="no_promotion_path")


def approvers_named(required: Sequence[str], deciding_roles: Collection[str]) -> list[str]:
    """Whom a workspace's `required_approvers` name, as `role:<role>` and `user:<id>`; empty where they name nobody.

    ConflictError `nobody_may_approve` where none of those it names can decide about anything.
    """
    named = [_name_of(each) for each in required]
    able = [name for name in named if name.startswith("user:") or name.removeprefix("role:") in deciding_roles]
    if named and not able:
        detail = "The required_approvers of that workspace name no user and no role that decides about approvals."
        raise ConflictError(detail, code="nobody_may_approve")
    return sorted(set(able))


def _name_of(text: str) -> str:
    if text.startswith(("role:", "user:")):
        return text
    try:
        return f"user:{UUID(text)}"
    except ValueError:
        return f"role:{text}"


def promotion_digest(
    *, agent_id: UUID, version_id: UUID, config_digest: str, from_to: tuple[UUID, UUID], approvers: Sequence[str]
) -> str:
    """SHA-256 of what is approved: which version of which agent goes where, and who was to be asked."""
    asked = {
        "action": "agent:promote",
        "agent_id": str(agent_id),
        "version_id": str(version_id),
        "config_digest": config_digest,
        "from_to": [str(each) for each in from_to],
        "approvers": approvers,
    }
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def plan_promotion(semver: str, digest: str, there: There | None) -> Promotion:
    """What bringing this version there takes; the current one again takes nothing.

    ConflictError `version_differs` where this number is something else there, `version_not_higher` where a higher
    number is there already: going back is a rollback.
    """
    if there is None:
        return Promotion.SAVE
    if there.digest not in (None, digest):
        detail = f"There is another version {semver} in that workspace: save this one under a new number."
        raise ConflictError(detail, code="version_differs")
    if there.digest == digest and semver == there.current:
        return Promotion.NOTHING
    if is_higher(there.highest, semver) or (there.digest is None and not is_higher(semver, there.highest)):
        detail = f"That workspace has {there.highest} already, which is not below {semver}: roll it back instead."
        raise ConflictError(detail, code="version_not_higher")
    return Promotion.SAVE if there.digest is None else Promotion.POINT
