"""Which facts tell that a run has come into another state, and what whoever watches is told: event names of AG-UI."""

from __future__ import annotations

from typing import NamedTuple

from execution.domain.nodes import CALL_KINDS
from execution.domain.runs import RunStatus


class RunChange(NamedTuple):
    """What a change is called on the wire, and the status that it brought."""

    event: str
    name: str
    """Of a CUSTOM event."""
    status: str | None
    """None: as the run's row says."""


_RESUMED = RunChange("CUSTOM", "RUN_RESUMED", None)
CHANGES = {
    "execution.run.queued.v1": RunChange("CUSTOM", "RUN_QUEUED", RunStatus.QUEUED),
    "execution.run.started.v1": RunChange("RUN_STARTED", "", RunStatus.RUNNING),
    "execution.run.wait_started.v1": RunChange("CUSTOM", "RUN_WAITING", RunStatus.WAITING),
    "execution.run.cancel_requested.v1": RunChange("CUSTOM", "RUN_CANCELLING", RunStatus.CANCELLING),
    "execution.run.completed.v1": RunChange("RUN_FINISHED", "", RunStatus.COMPLETED),
    "execution.run.failed.v1": RunChange("RUN_ERROR", "", RunStatus.FAILED),
    "execution.run.cancelled.v1": RunChange("RUN_ERROR", "", RunStatus.CANCELLED),
    "execution.run.timed_out.v1": RunChange("RUN_ERROR", "", RunStatus.TIMED_OUT),
    # No fact says that a run goes on: it does once what it waited for has ended.
    "execution.step.decided.v1": _RESUMED,
    "execution.step.completed.v1": _RESUMED,
    "execution.step.failed.v1": _RESUMED,
}
_OF_CALLS = tuple(f'"kind":"{kind}"'.encode() for kind in CALL_KINDS)
_ALONE = (b'"id":"execution.detached"', b'"id":"execution.clock"')
"""Who tells of calls that went on without their run: of their end, or that their worker is gone."""


def tells_change(kind: str, body: bytes) -> bool:
    """Whether a fact may tell of a run's change: of steps, only those that the run waited at.

    It did not wait for a call that whoever had it in hand has made; of one that was decided or stopped, that says it.
    """
    change = CHANGES.get(kind)
    if change is not _RESUMED or not any(call in body for call in _OF_CALLS):
        return change is not None
    return any(who in body for who in _ALONE)


class Place(NamedTuple):
    """Where a watcher of an organization's runs stands: its Last-Event-ID."""

    at_ms: int
    """When what it has seen was published."""
    epoch: int
    number: int
    """The organization's own, of its last fact that was looked at."""

    def __str__(self) -> str:
        return f"{self.at_ms}.{self.epoch}.{self.number}"


def place_of(event_id: str) -> Place | None:
    """The place that an id names; None for what is no such id."""
    parts = event_id.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in parts):
        return None
    return Place(*map(int, parts))
