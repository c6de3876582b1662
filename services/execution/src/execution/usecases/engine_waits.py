"""What a run in hand waits for: asked once, taken up when somebody answers, ended by the clock when nobody does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from chassis.clock import utc_now
from chassis.errors import RefusalError
from contracts.execution import ApprovalWanted
from execution.domain.nodes import CALL_KINDS, CALLS, SubrunNode, Wait, WaitNode
from execution.domain.runs import StepStatus, WaitingFor
from execution.domain.waits import EXPIRY_GRACE, WaitError, approval_digest, due_at, overdue
from execution.domain.walk import Outcome, Ready, StepKey
from execution.tables.runs import Run
from execution.usecases import engine_facts
from execution.usecases.engine_attempts import MESSAGE_CHARACTERS, Attempts
from execution.usecases.engine_rows import ClaimedRun, RunWrite, StepRow, bare_step

MAX_SHOWN_BYTES = 16 * 1024
"""What an approver is shown of a step; it travels in a fact."""
_FIRST = (
    WaitingFor.DECISION,
    WaitingFor.STEP,
    WaitingFor.APPROVAL,
    WaitingFor.SIGNAL,
    WaitingFor.CHILD,
    WaitingFor.TIMER,
)
"""What a run says that it waits for, where it waits for several things; while a call is under way its time runs."""


@dataclass(frozen=True, slots=True)
class Held:
    """A wait that has begun."""

    row: StepRow
    kind: Wait | WaitingFor
    wakes_at: datetime | None
    """When the run looks again by itself; a child run and a detached call tell of their end."""


class Waits:
    """The waits of one run; the steps they are know of them by their rows."""

    def __init__(self, run: ClaimedRun, attempts: Attempts) -> None:
        self._run, self._attempts = run, attempts
        self._begun: dict[StepKey, StepRow] = {}
        self.held: dict[StepKey, Held] = {}

    def recall(self, record: Any) -> None:
        """A waiting step that is stored already."""
        key = StepKey(record["node"], record["iteration"])
        row = bare_step(self._run, key, record["kind"], record["attempt"], record["step_number"])
        self._begun[key] = row._replace(
            id=record["id"],
            effects=record["effects"],
            agent_id=record["agent_id"],
            agent_version_id=record["agent_version_id"],
            agent_semver=record["agent_semver"],
            provider=record["provider"],
            model_name=record["model_name"],
            price_version=record["price_version"],
            status=StepStatus.WAITING,
            started_at=record["started_at"],
            completed_at=None,
        )

    def forget(self, key: StepKey) -> StepRow | None:
        """The row of a wait that is over, if it was one."""
        self.held.pop(key, None)
        return self._begun.pop(key, None)

    def is_waiting(self, key: StepKey, step_id: UUID) -> bool:
        """Whether this very attempt is one that waits, as far as we know."""
        row = self._begun.get(key)
        return row is not None and row.id == step_id

    def detached(self) -> list[tuple[StepKey, StepRow]]:
        """The calls that others have under way for this run, and of which nobody has to say what became of them."""
        calls = [(key, row) for key, row in self._begun.items() if row.kind in CALL_KINDS]
        return [(key, row) for key, row in calls if key not in self.held or self.held[key].kind is WaitingFor.STEP]

    def close(self, write: RunWrite, *, tell: bool) -> None:
        """The run ends: nobody has to answer any more; `tell` where its end does not say so by itself.

        A write of which nobody knows whether it happened stays one.
        """
        write.settles = write.settles or bool(self.detached())
        doubted = {held.row.id for held in self.held.values() if held.kind is WaitingFor.DECISION}
        for row in self._begun.values():
            if row.id in doubted:
                continue
            write.stirs_children = write.stirs_children or row.kind == SubrunNode.kind
            skipped = row._replace(status=StepStatus.SKIPPED, completed_at=utc_now())
            write.put(skipped)
            if tell:
                write.facts.append(engine_facts.step_skipped(self._run, skipped))
        self._begun.clear()
        self.held.clear()

    async def look(
        self, ready: Iterable[Ready], write: RunWrite, next_number: Callable[[], int]
    ) -> dict[StepKey, Outcome]:
        """Begin the waits among what is ready, and end those whose time is over: how each of these ended."""
        ended: dict[StepKey, Outcome] = {}
        for step in ready:
            key = StepKey(step.node.id, step.iteration)
            row = self._begun.get(key)
            if row is not None and key not in self.held:
                if isinstance(step.node, SubrunNode):
                    self.hold(key, row, WaitingFor.CHILD)
                elif isinstance(step.node, CALLS):
                    self.hold(key, row, WaitingFor.STEP)
            if not isinstance(step.node, WaitNode):
                continue
            is_new = row is None
            if row is None:
                row = bare_step(self._run, key, step.node.wait, 1, next_number())
                row = row._replace(status=StepStatus.WAITING, completed_at=None)
            outcome = await self._look_at(step, step.node, row, write, is_new=is_new)
            if outcome is not None:
                ended[key] = outcome
                self.forget(key)
        return ended

    def hold(self, key: StepKey, row: StepRow, kind: WaitingFor) -> None:
        """A step waits for the end of its child run, or of a call that others have under way."""
        self._begun[key] = row
        self.held[key] = Held(row, kind, None)

    def await_decision(self, key: StepKey, write: RunWrite) -> None:
        """Nobody knows what became of the write that was under way: a person has to say."""
        row = self._begun[key]
        if key in self.held and self.held[key].kind is WaitingFor.DECISION:
            return
        self.held[key] = Held(row, WaitingFor.DECISION, None)
        write.facts.append(engine_facts.wait_started(self._run, WaitingFor.DECISION, [row]))

    def seconds_left(self) -> float | None:
        """Until the first of the waits is over by the clock; None where none is."""
        moments = [held.wakes_at for held in self.held.values() if held.wakes_at is not None]
        return max(0.0, (min(moments) - utc_now()).total_seconds()) if moments else None

    def rest(self, write: RunWrite, seconds_left: float | None) -> None:
        """Make of a write the one with which the run waits; with a call under way, no longer than `seconds_left`."""
        kinds = {held.kind.value for held in self.held.values()}
        moments = [held.wakes_at for held in self.held.values() if held.wakes_at is not None]
        if WaitingFor.STEP in kinds and seconds_left is not None:
            moments.append(utc_now() + timedelta(seconds=seconds_left))
        write.status = "waiting"
        write.waiting_for = next(kind for kind in _FIRST if kind in kinds)
        write.wake_at = None if write.waiting_for == WaitingFor.DECISION else min(moments, default=None)
        if not write.facts:
            write.facts.append(engine_facts.wait_started(self._run, write.waiting_for, self.rows()))

    def rows(self) -> list[StepRow]:
        """The steps that wait."""
        return [held.row for held in self.held.values()]

    async def _look_at(
        self, step: Ready, node: WaitNode, row: StepRow, write: RunWrite, *, is_new: bool
    ) -> Outcome | None:
        now = utc_now()
        try:
            due = due_at(node, row.started_at, step.until)
        except WaitError as error:
            return await self.end(Outcome(StepStatus.FAILED, None, "invalid_time"), row, write, str(error))
        if outcome := overdue(node, due, step.input, now):
            write.settles = write.settles or not is_new
            return await self.end(outcome, row, write, "Nobody answered in time.")
        if is_new and (refusal := await self._begin(step, node, row, due, write)):
            return await self.end(refusal, row, write, "What is asked is too large.")
        wakes_at = due + EXPIRY_GRACE if node.wait is Wait.APPROVAL else due
        self.held[StepKey(step.node.id, step.iteration)] = Held(row, node.wait, wakes_at)
        return None

    async def _begin(self, step: Ready, node: WaitNode, row: StepRow, due: datetime, write: RunWrite) -> Outcome | None:
        """Store that it waits, and say so; how it has failed where what it asks cannot be kept or shown."""
        wanted = []
        if node.wait is Wait.APPROVAL:
            if len(orjson.dumps(step.input)) > MAX_SHOWN_BYTES:
                return Outcome(StepStatus.FAILED, None, "payload_too_large")
            wanted.append(_wanted(self._run, node, row, step.input, due))
        try:
            stored = await self._attempts.keep(self._run, step.input)
        except RefusalError as error:
            return Outcome(StepStatus.FAILED, None, error.code)
        row = row._replace(input=stored.inline, input_ref=stored.reference)
        self._begun[StepKey(step.node.id, step.iteration)] = row
        write.steps.append(row)
        write.facts.append(engine_facts.wait_started(self._run, node.wait, [row], wanted))
        return None

    async def end(self, outcome: Outcome, row: StepRow, write: RunWrite, why: str) -> Outcome:
        """Store how a step has ended that nobody works on, and say so."""
        stored = await self._attempts.keep(self._run, outcome.output)
        failed = outcome.status == StepStatus.FAILED
        row = row._replace(
            status=outcome.status.value,
            output=None if failed else stored.inline,
            output_ref=None if failed else stored.reference,
            error_code=outcome.error_code,
            error_message=why[:MESSAGE_CHARACTERS] if failed else None,
            completed_at=utc_now(),
        )
        write.steps.append(row)
        write.facts.append(engine_facts.step_ended(self._run, row))
        write.attempts += 1
        return outcome


def _wanted(run: ClaimedRun, node: WaitNode, row: StepRow, shown: Any, due: datetime) -> ApprovalWanted:
    resource_id = run.agent_id or run.orchestration_id
    return ApprovalWanted(
        approval_id=row.id,
        step_id=row.id,
        action=f"{run.execution_type}:execute",
        resource_type=run.execution_type,
        resource_id=str(resource_id),
        requester_id=run.created_by,
        owner_id=run.created_by,
        approvers=list(node.approvers),
        digest=digest_of_step(run, shown),
        shown=shown if isinstance(shown, dict) else {"value": shown},
        expires_at=due,
        rule_name=node.id,
        reason="The orchestration asks for it.",
    )


def digest_of_step(run: ClaimedRun | Run, shown: Any) -> str:
    """What an approval of this run's step is bound to."""
    content = run.input if run.input_ref is None else run.input_ref.encode()
    return approval_digest(
        action=f"{run.execution_type}:execute",
        resource_id=str(run.agent_id or run.orchestration_id),
        config_digest=str(run.version_id),
        shown=shown,
        input_sha256=hashlib.sha256(content or b"").hexdigest(),
        limits=run.limits,
    )
