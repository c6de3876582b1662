"""What a run in hand has used and may use: its own calls, and what its children were promised or have used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import orjson

from execution.domain.caps import total, usage_of, used_by
from execution.domain.nodes import SubrunNode
from execution.domain.runs import Limits, StepStatus, StopReason, Usage, cap_exceeded
from execution.domain.walk import StepKey
from execution.usecases.engine_rows import ClaimedRun, RunWrite

_LIMITS = {limit.name for limit in fields(Limits)}
NOTHING = Usage()


class Caps:
    """The limits of a run, and what counts against them."""

    def __init__(self, run: ClaimedRun) -> None:
        self._run = run
        self.limits = limits_in(run.limits)
        self.promised: dict[StepKey, Usage] = {}
        """What children and detached calls that have not ended may use."""
        self._used = NOTHING
        """What children that have ended, and theirs, have used."""

    def recall(self, key: StepKey, record: Any) -> None:
        """Count a step that is stored, if it is a child's or a call that runs detached."""
        self.promised.pop(key, None)
        if record["child"] is None:
            return
        may_use = used_by(limits_in(orjson.loads(record["child"])["limits"]))
        if record["status"] == StepStatus.WAITING:
            self.promised[key] = may_use
        elif record["kind"] == SubrunNode.kind:
            told = record["child_used"]
            self._used = total(self._used, may_use if told is None else usage_of(orjson.loads(told)))

    def give_up(self, key: StepKey) -> None:
        """Nobody waits for this child or call any more: it may have used all that it was promised."""
        self._used = total(self._used, self.promised.pop(key, NOTHING))

    def spent(self, write: RunWrite, calls: Iterable[Usage], steps: int) -> Usage:
        """What was used, what these calls and the children may use, with so many steps of its own."""
        run, held = self._run, total(*calls)
        children = total(self._used, *self.promised.values()) if self.promised else self._used
        stored = run.input_tokens + run.output_tokens + write.input_tokens + write.output_tokens
        return Usage(
            cost_usd_micros=run.cost_usd_micros
            + write.cost_usd_micros
            + held.cost_usd_micros
            + children.cost_usd_micros,
            tokens=stored + held.tokens + children.tokens,
            steps=steps + children.steps + len(self.promised),
            depth=run.depth,
        )

    def forbidden(self, spent: Usage, call: Usage) -> StopReason | None:
        """Why a call that may use so much must not be made."""
        return cap_exceeded(self.limits, spent, call)

    def is_only_promised(self, spent: Usage, call: Usage) -> bool:
        """Whether a forbidden call may fit once the children have ended."""
        if not self.promised:
            return False
        promised = total(*self.promised.values())
        without = Usage(
            cost_usd_micros=spent.cost_usd_micros - promised.cost_usd_micros,
            tokens=spent.tokens - promised.tokens,
            steps=spent.steps - promised.steps,
            depth=spent.depth,
        )
        return cap_exceeded(self.limits, without, call) is None


def limits_in(told: dict[str, Any]) -> Limits:
    """The limits that a row holds, whatever else is there."""
    return Limits(**{name: value for name, value in told.items() if name in _LIMITS})
