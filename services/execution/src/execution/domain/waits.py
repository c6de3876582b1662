"""What a run waits for: when it is over, and what exactly a person approves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import orjson

from execution.domain.documents import Json
from execution.domain.nodes import MAX_WAIT_SECONDS, OnError, Wait, WaitNode
from execution.domain.runs import StepStatus
from execution.domain.walk import Outcome

EXPIRY_GRACE = timedelta(minutes=10)
"""Approvals expire by policy's clock; the run gives up by its own only when policy has said nothing for so long."""
APPROVED, REJECTED, EXPIRED = "approved", "rejected", "expired"


class WaitError(ValueError):
    """A moment to wait for is none."""


def due_at(node: WaitNode, started_at: datetime, until: Json) -> datetime:
    """When the wait is over if nothing happens; WaitError for a moment that is none, or more than 30 days ahead."""
    if node.until is None:
        return started_at + timedelta(seconds=node.timeout_seconds)
    try:
        moment = datetime.fromisoformat(until)
    except (TypeError, ValueError):
        raise WaitError("until is no moment such as 2026-11-30T09:00:00Z") from None
    if moment.tzinfo is None:
        raise WaitError("until has no offset from UTC: 2026-11-30T09:00:00Z")
    if moment.astimezone(UTC) - started_at > timedelta(seconds=MAX_WAIT_SECONDS):
        raise WaitError("until is more than 30 days ahead")
    return moment.astimezone(UTC)


def overdue(node: WaitNode, due: datetime, given: Json, now: datetime) -> Outcome | None:
    """How the wait has ended by itself, or None while it has not; a timer gives on what came before it."""
    if node.wait is Wait.TIMER:
        return Outcome(StepStatus.COMPLETED, given) if due <= now else None
    if now < (due + EXPIRY_GRACE if node.wait is Wait.APPROVAL else due):
        return None
    return refused(node, EXPIRED if node.wait is Wait.APPROVAL else "timed_out")


def refused(node: WaitNode, why: str) -> Outcome:
    """How a wait ends that was rejected, or not answered in time."""
    if node.on_refusal is OnError.SKIP:
        return Outcome(StepStatus.COMPLETED, {"outcome": why})
    return Outcome(StepStatus.FAILED, None, f"{node.wait}_{why}")


def approval_digest(
    *, action: str, resource_id: str, config_digest: str, shown: Json, input_sha256: str, limits: Json
) -> str:
    """SHA-256 of what is approved: the action, on what, in which version, with which input and caps."""
    asked = {
        "action": action,
        "resource_id": resource_id,
        "config_digest": config_digest,
        "shown": shown,
        "input_sha256": input_sha256,
        "limits": limits,
    }
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
