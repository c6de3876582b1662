"""Steps that wait: found, answered, and closed when their run ends before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import update

from chassis.objects import Objects, keep_payload
from chassis.uow import UnitOfWork
from contracts.execution import StepCompleted, StepFailed
from execution.domain.graph import Graph
from execution.domain.nodes import Wait, WaitNode
from execution.domain.runs import RunStatus, StepStatus, WaitingFor
from execution.tables.orchestrations import OrchestrationVersion
from execution.tables.runs import Run, Step
from execution.usecases.steps import queue_again, steps_of_run

Waiting = tuple[Step, WaitNode]


async def find_signal_waits(uow: UnitOfWork, run: Run, name: str) -> list[Step]:
    """The steps of a locked run that wait for a signal of this name, or have it as their id."""
    return [step for step, node in await _find_waits(uow, run, Wait.SIGNAL) if name in (node.signal, node.id)]


async def find_approval_wait(uow: UnitOfWork, run: Run, step_id: UUID | None) -> Waiting | None:
    """The step of a locked run with this id, if it waits for an approval."""
    return next((found for found in await _find_waits(uow, run, Wait.APPROVAL) if found[0].id == step_id), None)


async def _find_waits(uow: UnitOfWork, run: Run, wait: Wait) -> list[Waiting]:
    waiting: Sequence[Step] = await uow.all(
        steps_of_run(run)
        .where(Step.status == StepStatus.WAITING, Step.kind == wait)
        .order_by(Step.step_number)
        .with_for_update()
    )
    version = await uow.find(OrchestrationVersion, run.version_id) if waiting else None
    if version is None:
        return []
    nodes = Graph.from_json(version.graph).nodes
    return [(step, node) for step in waiting if isinstance(node := nodes.get(step.node), WaitNode)]


async def complete_wait(uow: UnitOfWork, run: Run, step: Step, output: Any, *, objects: Objects) -> None:
    """The step has what it waited for; its run goes on."""
    step.output, step.output_ref = await keep_payload(objects, uow.organization_id, run.id, output)
    _answer(uow, run, step, StepStatus.COMPLETED)
    uow.emit(StepCompleted.of(step, **_known(run, step), ended_at=step.completed_at))


def fail_wait(uow: UnitOfWork, run: Run, step: Step, code: str, message: str) -> None:
    """The step does not get what it waited for; its run goes on, or fails with it."""
    step.error_code, step.error_message = code, message
    _answer(uow, run, step, StepStatus.FAILED)
    uow.emit(StepFailed.of(step, **_known(run, step), ended_at=step.completed_at))


async def close_waits(uow: UnitOfWork, run: Run) -> None:
    """The run has ended while it waited: nobody has to answer any more."""
    ended = {"status": StepStatus.SKIPPED, "completed_at": uow.now, "updated_at": uow.now}
    still = (
        update(Step)
        .where(
            Step.organization_id == run.organization_id,
            Step.retention_class == run.retention_class,
            Step.run_id == run.id,
            Step.status == StepStatus.WAITING,
        )
        .values(**ended, version=Step.version + 1)
    )
    await uow.execute(still)
    run.wake_at = None


def _answer(uow: UnitOfWork, run: Run, step: Step, status: StepStatus) -> None:
    step.status, step.completed_at, step.updated_at = status, uow.now, uow.now
    step.version += 1
    run.answers, run.step_count = run.answers + 1, run.step_count + 1
    run.updated_at, run.version = uow.now, run.version + 1
    if run.status == RunStatus.WAITING and run.waiting_for != WaitingFor.DECISION:
        queue_again(uow, run)


def _known(run: Run, step: Step) -> dict[str, Any]:
    return {"workspace_id": run.workspace_id, "owner_id": run.created_by, "step_id": step.id}
