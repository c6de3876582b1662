"""What a fork keeps of the run it comes from, and how the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from execution.domain.documents import Json
from execution.domain.nodes import Wait
from execution.domain.runs import StopReason


class StoredStep(Protocol):
    """An attempt as it is stored."""

    node: str
    iteration: int
    attempt: int
    step_number: int
    kind: str
    completed_at: datetime | None
    will_retry: bool
    error_code: str | None


_STOPPED = (StopReason.CANCELLED, StopReason.KILLED)
AnyStep = TypeVar("AnyStep", bound=StoredStep)


def kept_of(steps: Iterable[AnyStep], node: str, iteration: int) -> list[AnyStep] | None:
    """The steps that were started before this one and have ended; None where the run never came to it.

    Whatever a step follows from was started before it, so nothing is kept of which anything is missing. Approvals are
    never kept: what somebody approved was another run. Nor is what only failed because the run was stopped.
    """
    listed = list(steps)
    numbers = [step.step_number for step in listed if (step.node, step.iteration) == (node, iteration)]
    if not numbers:
        return None
    before = min(numbers)
    return [
        step
        for step in listed
        if step.step_number < before
        and step.completed_at is not None
        and not step.will_retry
        and step.kind != Wait.APPROVAL
        and step.error_code not in _STOPPED
        and (step.node, step.iteration) != (node, iteration)
    ]


class Change(StrEnum):
    """How a step of a fork stands to that of the original."""

    KEPT = "kept"
    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    MISSING = "missing"


class Ended(NamedTuple):
    """How a step ended in one of two runs."""

    node: str
    iteration: int
    status: str
    output: Json
    is_copy: bool


class StepDifference(NamedTuple):
    """One step in both runs."""

    node: str
    iteration: int
    change: Change
    before: Ended | None
    after: Ended | None


def differences(before: Sequence[Ended], after: Sequence[Ended]) -> list[StepDifference]:
    """Step by step what is different, in the order of the original, what is new at the end."""
    old = {(step.node, step.iteration): step for step in before}
    new = {(step.node, step.iteration): step for step in after}
    keys = [*old, *(key for key in new if key not in old)]
    return [StepDifference(*key, _change(old.get(key), new.get(key)), old.get(key), new.get(key)) for key in keys]


def _change(before: Ended | None, after: Ended | None) -> Change:
    if after is None:
        return Change.MISSING
    if before is None:
        return Change.ADDED
    if after.is_copy:
        return Change.KEPT
    return Change.SAME if (before.status, before.output) == (after.status, after.output) else Change.CHANGED
