"""The child runs that a run in hand wants: each a step that waits, promised a part of what the run may still use.

The child itself is started, and its end told, by whoever looks after children: the row of the step says all that is
needed, so nothing is lost with the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson

from chassis.errors import RefusalError
from execution.domain.caps import Wish, below, promise, told_limits, used_by
from execution.domain.nodes import SubrunNode
from execution.domain.runs import Limits, StepStatus, StopReason, Usage, WaitingFor
from execution.domain.walk import Outcome, Ready, StepKey
from execution.usecases import engine_facts
from execution.usecases.engine_attempts import Attempts
from execution.usecases.engine_caps import Caps
from execution.usecases.engine_definitions import ChildVersion, DefinitionGoneError, Definitions
from execution.usecases.engine_rows import ClaimedRun, RunWrite, bare_step
from execution.usecases.engine_waits import Waits


class Wanted(NamedTuple):
    """What became of the children that are ready."""

    ended: dict[StepKey, Outcome]
    """Those that cannot be asked for, and how they have failed."""
    reason: StopReason | None = None
    """Why the run has to stop."""


_NONE = Wanted({})


@dataclass(frozen=True, slots=True)
class Children:
    """The children of one run."""

    run: ClaimedRun
    caps: Caps
    waits: Waits
    attempts: Attempts
    definitions: Definitions

    async def look(
        self,
        ready: Sequence[Ready],
        write: RunWrite,
        spent: Callable[[], Usage],
        seconds_left: float | None,
        next_number: Callable[[], int],
    ) -> Wanted:
        """Ask for the children among what is ready that were not asked for yet, as far as the run's limits allow."""
        fresh = [
            (step, step.node)
            for step in ready
            if isinstance(step.node, SubrunNode) and _key(step) not in self.waits.held
        ]
        if not fresh:
            return _NONE
        if seconds_left == 0:
            return Wanted({}, StopReason.TIMEOUT)
        ended: dict[StepKey, Outcome] = {}
        sharing = sum(1 for step in ready if _key(step) not in self.waits.held)
        for place, (step, node) in enumerate(fresh):
            reason = self.caps.forbidden(spent(), self._least)
            if reason is not None:
                if self.caps.is_only_promised(spent(), self._least):
                    continue
                return Wanted(ended, reason)
            try:
                version = await self.definitions.child_of(self.run, node.orchestration)
            except DefinitionGoneError:
                ended[_key(step)] = await self._refuse(step, "definition_gone", write, next_number)
                continue
            limits = self._promise(version, node, spent(), seconds_left, sharing=sharing - place)
            if limits is not None and (refused := await self._ask(step, version, limits, write, next_number)):
                ended[_key(step)] = refused
        return Wanted(ended)

    @property
    def _least(self) -> Usage:
        """A child takes a step of its parent's and at least one of its own."""
        return Usage(steps=2, depth=self.run.depth + 1)

    def _promise(
        self, version: ChildVersion, node: SubrunNode, spent: Usage, seconds_left: float | None, *, sharing: int
    ) -> Limits | None:
        """What the child may use; None: nothing before another has ended."""
        seconds = [version.limits.timeout_seconds, node.timeout_seconds, seconds_left]
        timeout = min((each for each in seconds if each is not None), default=None)
        own = below(version.limits, self.run.depth + 1)
        wish = Wish(replace(own, timeout_seconds=timeout), version.most_steps)
        return promise(self.caps.limits, spent, wish, sharing=sharing, may_wait=bool(self.caps.promised))

    async def _ask(
        self, step: Ready, version: ChildVersion, limits: Limits, write: RunWrite, next_number: Callable[[], int]
    ) -> Outcome | None:
        """Store that the step waits for its child, and say so; how it has failed where its input cannot be kept."""
        try:
            stored = await self.attempts.keep(self.run, step.input)
        except RefusalError as error:
            return await self._refuse(step, error.code, write, next_number)
        wanted = {
            "orchestration_id": version.orchestration_id,
            "semver": version.semver,
            "limits": told_limits(limits),
        }
        row = bare_step(self.run, _key(step), SubrunNode.kind, 1, next_number())._replace(
            status=StepStatus.WAITING,
            completed_at=None,
            input=stored.inline,
            input_ref=stored.reference,
            child=orjson.dumps(wanted).decode(),
        )
        self.waits.hold(_key(step), row, WaitingFor.CHILD)
        self.caps.promised[_key(step)] = used_by(limits)
        write.steps.append(row)
        write.facts.append(engine_facts.wait_started(self.run, WaitingFor.CHILD, [row]))
        write.stirs_children = True
        return None

    async def _refuse(self, step: Ready, code: str, write: RunWrite, next_number: Callable[[], int]) -> Outcome:
        row = bare_step(self.run, _key(step), SubrunNode.kind, 1, next_number())
        outcome = Outcome(StepStatus.FAILED, None, code)
        return await self.waits.end(outcome, row, write, "The child run cannot be asked for.")


def _key(step: Ready) -> StepKey:
    return StepKey(step.node.id, step.iteration)
