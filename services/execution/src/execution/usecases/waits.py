"""Waiting steps of runs: answered by a signal or by policy's word about an approval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import update

from chassis.errors import ConflictError
from chassis.objects import NoObjects, Objects, keep_payload, read_payload
from chassis.uow import UnitOfWork
from contracts.execution import RunSignalled, StepCompleted, StepFailed
from contracts.policy import ApprovalDecided, ApprovalState
from execution.domain.graph import Graph
from execution.domain.nodes import OnError, WaitNode
from execution.domain.runs import RunStatus, StepStatus
from execution.domain.waits import APPROVED, EXPIRED, refused
from execution.domain.walk import Outcome
from execution.tables.orchestrations import OrchestrationVersion
from execution.tables.runs import Run, Step
from execution.usecases.engine_waits import digest_of_step
from execution.usecases.steps import queue_again, steps_of_run


async def signal_run(uow: UnitOfWork, run_id: UUID, *, name: str, payload: Any, objects: Objects) -> Step:
    """Answer every step of the run that waits for this signal; the payload is their output. Returns the first.

    ConflictError `signal_not_awaited` where none waits for it: sending it later, once one does, is right.
    """
    run = await uow.get(Run, run_id, lock=True)
    waiting: Sequence[Step] = await uow.all(_waiting(run).order_by(Step.step_number).with_for_update())
    nodes = await _nodes(uow, run) if waiting else {}
    awaited = [step for step in waiting if _signal_of(nodes.get(step.node)) == name]
    if not awaited:
        raise ConflictError(
            f"No step of this run waits for a signal {name!r:.80} now.", code="signal_not_awaited"
        )  # fmt: skip
    uow.emit(RunSignalled.of(run, owner_id=run.created_by, name=name, step_ids=[step.id for step in awaited]))
    for step in awaited:
        await _answer(uow, run, step, Outcome(StepStatus.COMPLETED, payload), objects)
    return awaited[0]


async def answer_approval(uow: UnitOfWork, fact: ApprovalState) -> None:
    """Take up what policy says of an approval that a run's step waits for; what nobody waits for changes nothing."""
    run = await uow.find(Run, fact.run_id, lock=True)
    if run is None or fact.step_id is None or run.status not in (RunStatus.WAITING, RunStatus.RUNNING):
        return
    step: Step | None = await uow.first(_waiting(run).where(Step.id == fact.step_id).with_for_update())
    if step is None:
        return
    node = (await _nodes(uow, run)).get(step.node)
    objects = NoObjects()  # what an approver is shown, and what is said of it, is always in the row
    shown = await read_payload(step.input, step.input_ref, objects)
    await _answer(uow, run, step, _outcome(node, run, fact, shown), objects)


async def close_waits(uow: UnitOfWork, run: Run) -> None:
    """The run has ended while it waited: nobody has to answer any more."""
    ended = {"status": StepStatus.SKIPPED, "completed_at": uow.now, "updated_at": uow.now}
    await uow.execute(
        update(Step)
        .where(
            Step.organization_id == run.organization_id,
            Step.retention_class == run.retention_class,
            Step.run_id == run.id,
            Step.status == StepStatus.WAITING,
        )
        .values(**ended, version=Step.version + 1)
    )
    run.wake_at = None


def _outcome(node: Any, run: Run, fact: ApprovalState, shown: Any) -> Outcome:
    if not isinstance(node, WaitNode) or fact.digest != digest_of_step(run, shown):
        return Outcome(StepStatus.FAILED, None, "approval_digest_mismatch")
    if not isinstance(fact, ApprovalDecided):
        return refused(node, EXPIRED)
    told = {"outcome": fact.outcome, "approver_id": fact.approver_id, "reason": fact.reason}
    if fact.outcome == APPROVED:
        return Outcome(StepStatus.COMPLETED, told)
    return Outcome(StepStatus.COMPLETED, told) if node.on_refusal is OnError.SKIP else refused(node, fact.outcome)


async def _answer(uow: UnitOfWork, run: Run, step: Step, outcome: Outcome, objects: Objects) -> None:
    """Say how a waiting step ended; its run goes on, at once where it only waits."""
    if outcome.status == StepStatus.COMPLETED:
        step.output, step.output_ref = await keep_payload(objects, uow.organization_id, run.id, outcome.output)
    else:
        step.error_code, step.error_message = outcome.error_code, "It was not approved."
    step.status, step.completed_at, step.updated_at = outcome.status, uow.now, uow.now
    step.version += 1
    run.answers, run.step_count = run.answers + 1, run.step_count + 1
    run.updated_at, run.version = uow.now, run.version + 1
    if run.status == RunStatus.WAITING:
        queue_again(uow, run)
    ended = StepCompleted if outcome.status == StepStatus.COMPLETED else StepFailed
    known = {"workspace_id": run.workspace_id, "owner_id": run.created_by, "step_id": step.id}
    uow.emit(ended.of(step, **known, ended_at=step.completed_at))


async def _nodes(uow: UnitOfWork, run: Run) -> dict[str, Any]:
    """The nodes of the graph that the run follows."""
    row = await uow.find(OrchestrationVersion, run.version_id)
    return {} if row is None else dict(Graph.from_json(row.graph).nodes)


def _signal_of(node: Any) -> str | None:
    return node.signal if isinstance(node, WaitNode) else None


def _waiting(run: Run) -> Any:
    return steps_of_run(run).where(Step.status == StepStatus.WAITING)
