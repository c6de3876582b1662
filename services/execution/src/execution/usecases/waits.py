"""Steps that wait: found, answered, and closed when their run ends before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.objects import Objects, keep_payload
from chassis.uow import UnitOfWork
from contracts.execution import StepCompleted, StepFailed
from execution.domain.graph import Graph
from execution.domain.nodes import CALL_KINDS, IS_CALL, Wait, WaitNode
from execution.domain.runs import RunStatus, StepStatus, WaitingFor
from execution.tables.orchestrations import OrchestrationVersion
from execution.tables.runs import Run, Step
from execution.usecases.steps import queue_again, steps_of_run

Waiting = tuple[Step, WaitNode]
# A call that goes on without its run has left: its attempt is one that failed.
_CLOSE = f"""update step s set status = case when s.{IS_CALL} then 'failed' else 'skipped' end,
  error_code = case when s.{IS_CALL} then $4 else s.error_code end,
  child = case when s.{IS_CALL} then null else s.child end,
  lease_until = null, completed_at = $3, updated_at = $3, version = s.version + 1
from run r where s.organization_id = $1 and s.run_id = any($2::uuid[]) and s.status = 'waiting'
  and r.organization_id = s.organization_id and r.retention_class = s.retention_class and r.id = s.run_id
returning s.run_id, r.workspace_id, r.created_by as owner_id, s.id as step_id, s.node, s.iteration, s.attempt, s.kind,
  s.agent_id, s.agent_semver, s.provider, s.model_name, s.price_version, s.started_at, s.completed_at as ended_at,
  s.error_code, s.will_retry"""  # noqa: S608  (kinds of our own)


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
    end_wait(uow, run, step, StepStatus.COMPLETED)


def fail_wait(uow: UnitOfWork, run: Run, step: Step, code: str, message: str) -> None:
    """The step does not get what it waited for; its run goes on, or fails with it."""
    step.error_code, step.error_message = code, message
    end_wait(uow, run, step, StepStatus.FAILED)


async def close_waits(uow: UnitOfWork, run_ids: Sequence[UUID], code: str) -> Counter[UUID]:
    """These runs were stopped while they waited: nobody has to answer any more, and calls under way are given up.

    Returns how many calls of each run were, which are steps that its count does not know of yet.
    """
    rows = await uow.fetch(_CLOSE, uow.organization_id, run_ids, uow.now, code)
    calls = [row for row in rows if row["kind"] in CALL_KINDS]
    for row in calls:
        uow.emit(StepFailed.model_validate(dict(row)))
    return Counter(row["run_id"] for row in calls)


def end_wait(uow: UnitOfWork, run: Run, step: Step, status: StepStatus) -> None:
    """The step has ended, its outcome already in its row: it is counted, said, and the run goes on."""
    step.status, step.completed_at = status, uow.now
    run.step_count += 1
    resume(uow, run, step)
    ended = StepCompleted if status == StepStatus.COMPLETED else StepFailed
    known = {"workspace_id": run.workspace_id, "owner_id": run.created_by, "step_id": step.id}
    uow.emit(ended.of(step, **known, ended_at=step.completed_at))


def resume(uow: UnitOfWork, run: Run, step: Step) -> None:
    """Something was said of a step that waited: whoever has the run hears of it, or it is queued."""
    step.updated_at, step.version = uow.now, step.version + 1
    run.answers += 1
    run.updated_at, run.version = uow.now, run.version + 1
    if run.status == RunStatus.WAITING and run.waiting_for != WaitingFor.DECISION:
        queue_again(uow, run)
