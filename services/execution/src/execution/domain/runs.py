"""States of runs and steps, who may follow whom, and the caps that stop a run before it overspends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self, TypeVar

from chassis.errors import ConflictError
from execution.domain.quantities import usd_to_micros

_Number = TypeVar("_Number", int, float)


class RunStatus(StrEnum):
    """Where a run is in its life."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class StepStatus(StrEnum):
    """Where one step of a run is; `needs_decision` is a write of which nobody knows whether it happened."""

    STARTED = "started"
    WAITING = "waiting"
    NEEDS_DECISION = "needs_decision"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class WaitingFor(StrEnum):
    """What a waiting run waits for."""

    APPROVAL = "approval"
    TIMER = "timer"
    SIGNAL = "signal"
    CHILD = "child"
    STEP = "step"
    DECISION = "decision"


class Decided(StrEnum):
    """What a person says of a write that was tried: it happened, it did not and will not, or try it again."""

    COMPLETED = "completed"
    FAILED = "failed"
    RETRY = "retry"


DECIDED_FAILED, DECIDED_RETRY = "decided_failed", "decided_retry"
"""The error codes of attempts that a person gave up, or has tried again."""
WORKER_LOST = "worker_lost"
"""The error code of a detached call whose worker is gone: nobody counts it as a try."""
OWN_CODES = frozenset({DECIDED_FAILED, DECIDED_RETRY, WORKER_LOST})
"""Codes that the engine acts upon, and no agent may give."""


class StopReason(StrEnum):
    """Why a run was stopped before its end, other than by a failing step."""

    MAX_COST = "max_cost"
    MAX_TOKENS = "max_tokens"
    MAX_STEPS = "max_steps"
    MAX_DEPTH = "max_depth"
    TIMEOUT = "timeout"
    CRASH_LOOP = "crash_loop"
    KILLED = "killed"
    CANCELLED = "cancelled"


FINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT})
UNSUCCESSFUL = ("failed", "cancelled", "timed_out")
UNFINISHED = ("scheduled", "queued", "running", "waiting", "cancelling")
"""What has an index of its own, as the index says it."""
FINAL_STEP = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED})

_STOPS = frozenset({RunStatus.CANCELLING, RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.TIMED_OUT})
TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.SCHEDULED: frozenset({RunStatus.QUEUED}) | _STOPS,
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING}) | _STOPS,
    RunStatus.RUNNING: frozenset({RunStatus.WAITING, RunStatus.COMPLETED}) | _STOPS,
    RunStatus.WAITING: frozenset({RunStatus.QUEUED, RunStatus.RUNNING}) | _STOPS,
    RunStatus.CANCELLING: frozenset({RunStatus.CANCELLED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.TIMED_OUT: frozenset(),
}


def may_become(present: RunStatus, wanted: RunStatus) -> bool:
    """Whether a run of the first status can be given the second."""
    return wanted in TRANSITIONS[present]


def require_transition(present: RunStatus, wanted: RunStatus) -> None:
    """Refuse (409 `invalid_transition`) a change of status that a run cannot make."""
    if not may_become(present, wanted):
        raise ConflictError(f"A run that is {present} cannot become {wanted}.", code="invalid_transition")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a run may use; None is unlimited."""

    max_cost_usd_micros: int | None = None
    max_tokens: int | None = None
    max_steps: int | None = None
    max_depth: int | None = None
    timeout_seconds: float | None = None

    @classmethod
    def of_decision(cls, caps: Mapping[str, Any]) -> Self:
        """The caps that a decision puts on a run, by the names that rules have for them."""
        cost = caps.get("run.max_cost_usd")
        return cls(
            max_cost_usd_micros=None if cost is None else usd_to_micros(Decimal(str(cost))),
            max_tokens=_whole(caps.get("run.max_tokens")),
            max_steps=_whole(caps.get("run.max_steps")),
            max_depth=_whole(caps.get("run.max_depth")),
            timeout_seconds=caps.get("run.timeout_seconds"),
        )

    def tightened(self, other: Limits) -> Limits:
        """The stricter of both, limit by limit."""
        return Limits(
            max_cost_usd_micros=_stricter(self.max_cost_usd_micros, other.max_cost_usd_micros),
            max_tokens=_stricter(self.max_tokens, other.max_tokens),
            max_steps=_stricter(self.max_steps, other.max_steps),
            max_depth=_stricter(self.max_depth, other.max_depth),
            timeout_seconds=_stricter(self.timeout_seconds, other.timeout_seconds),
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run (or a tree of runs) has used, or what its next call may use at most."""

    cost_usd_micros: int = 0
    tokens: int = 0
    steps: int = 0
    elapsed_seconds: float = 0.0
    depth: int = 0

    def without_steps(self) -> Usage:
        """The same of what is no step that is bounded."""
        return replace(self, steps=0)


def cap_exceeded(limits: Limits, spent: Usage, next_estimate: Usage) -> StopReason | None:
    """Why the next call must not be made, or None: what was spent plus what it may use would pass a limit.

    `elapsed_seconds` is compared alone (no time is left when it has reached the timeout), and `depth` of the estimate
    is the depth the next run would have, not something to add.
    """
    if limits.timeout_seconds is not None and spent.elapsed_seconds >= limits.timeout_seconds:
        return StopReason.TIMEOUT
    if limits.max_depth is not None and max(spent.depth, next_estimate.depth) > limits.max_depth:
        return StopReason.MAX_DEPTH
    if limits.max_steps is not None and spent.steps + next_estimate.steps > limits.max_steps:
        return StopReason.MAX_STEPS
    if limits.max_tokens is not None and spent.tokens + next_estimate.tokens > limits.max_tokens:
        return StopReason.MAX_TOKENS
    cost = spent.cost_usd_micros + next_estimate.cost_usd_micros
    if limits.max_cost_usd_micros is not None and cost > limits.max_cost_usd_micros:
        return StopReason.MAX_COST
    return None


def status_of_stop(reason: StopReason) -> RunStatus:
    """The final status of a run that was stopped for this reason."""
    if reason is StopReason.TIMEOUT:
        return RunStatus.TIMED_OUT
    return RunStatus.CANCELLED if reason in (StopReason.CANCELLED, StopReason.KILLED) else RunStatus.FAILED


def elapsed_ms(start: datetime | None, end: datetime | None) -> int | None:
    """Milliseconds from start to end; None while there is no end."""
    return None if start is None or end is None else round((end - start).total_seconds() * 1000)


def _stricter(one: _Number | None, other: _Number | None) -> _Number | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
