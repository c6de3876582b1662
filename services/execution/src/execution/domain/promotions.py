"""Promotions: what a version that comes from another workspace means for what is there already."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.errors import ConflictError
from execution.domain.versions import is_higher


class Promotion(StrEnum):
    """What has to be done to bring a version into a workspace."""

    SAVE = "save"
    POINT = "point"
    """It is there, and another one runs."""
    NOTHING = "nothing"


class There(NamedTuple):
    """What the workspace has of the agent."""

    current: str
    highest: str
    digest: str | None
    """Of the version there that has the number of the one that comes; None where none has."""


def require_path(*, from_workspace: UUID, promotion_from: UUID | None, requires_approval: bool) -> None:
    """ConflictError `no_promotion_path` where no path leads there, `approval_required` where it needs a person."""
    if promotion_from != from_workspace:
        detail = "No path leads there: its workspace takes promotions from another one, or from none (promotion_from)."
        raise ConflictError(detail, code="no_promotion_path")
    if requires_approval:
        detail = "This workspace wants an approval for each promotion, and approvals of promotions are not there yet."
        raise ConflictError(detail, code="approval_required")


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
