"""Child runs: started for a step that waits for one, and told of to that step when they end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, update

from chassis.errors import RefusalError
from chassis.objects import Objects, read_payload
from chassis.rules import Rules
from chassis.uow import UnitOfWork
from execution.domain.caps import below, told_limits, told_usage, total, usage_of, used_by
from execution.domain.runs import FINAL, Limits, RunStatus, StepStatus, Usage
from execution.tables.runs import Run, Step
from execution.usecases.run_subjects import find_subject
from execution.usecases.runs import RunRequest, announce_run, cancel_run, prepare_run
from execution.usecases.starts import caller_of, start_as
from execution.usecases.steps import steps_of_run
from execution.usecases.subscriptions import count_run
from execution.usecases.waits import complete_wait, fail_wait

AT_ONCE = 200
_NOTHING = told_usage(Usage())


class Due(NamedTuple):
    """A step of a run whose child needs looking after."""

    organization_id: UUID
    run_id: UUID
    step_id: UUID


async def find_due(uow: UnitOfWork, without: list[UUID]) -> list[Due]:
    """Steps of all organizations whose child is to be started, told of or stopped, but for these."""
    rows = await uow.fetch("select organization_id, run_id, step_id from due_children($1, $2)", AT_ONCE, without)
    return [Due(row["organization_id"], row["run_id"], row["step_id"]) for row in rows]


async def look_after_child(uow: UnitOfWork, due: Due, *, rules: Rules, objects: Objects) -> bool:
    """Do for a step what its child needs now; whether there was anything to do. Doing it again changes nothing."""
    parent = await uow.find(Run, due.run_id, lock=True)
    step: Step | None = None
    if parent is not None:
        step = await uow.first(steps_of_run(parent).where(Step.id == due.step_id).with_for_update())
    if parent is None or step is None:
        return await _forget(uow, due)
    child = None if step.child_run_id is None else await uow.find(Run, step.child_run_id, lock=True)
    if parent.status in FINAL and step.status == StepStatus.WAITING:
        step.status, step.completed_at = StepStatus.SKIPPED, uow.now
    if step.status != StepStatus.WAITING:
        return await _let_go(uow, parent, step, child)
    if child is None:
        if parent.status == RunStatus.CANCELLING:
            return False  # whoever holds it lets go of the step, too
        await _start(uow, parent, step, rules=rules, objects=objects)
        return True
    if child.status in FINAL:
        await _tell(uow, parent, step, child, objects)
        return True
    return False


async def _forget(uow: UnitOfWork, due: Due) -> bool:
    """The parent is gone with its retention: there is nobody to tell."""
    of = (Run.organization_id == due.organization_id) & (Run.parent_run_id == due.run_id)
    untold = update(Run).where(of, Run.parent_step_id == due.step_id, Run.parent_told.is_(False))
    await uow.execute(untold.values(parent_told=True))
    return True


async def _start(uow: UnitOfWork, parent: Run, step: Step, *, rules: Rules, objects: Objects) -> None:
    """Start the child as whoever started its parent; a refusal is how the step has ended."""
    asked: dict[str, Any] = step.child or {}
    request = RunRequest(
        kind="orchestration",
        reference=asked["orchestration_id"],
        semver=asked["semver"],
        input=await read_payload(step.input, step.input_ref, objects),
        trigger_type="child",
        priority=parent.priority,
        depth=parent.depth + 1,
    )

    async def start() -> UUID:
        subject = await find_subject(uow, request.kind, request.reference, workspace=None, semver=request.semver)
        run = await prepare_run(uow, subject, request, rules=rules, objects=objects)
        await _attach(uow, run, parent, step, Limits(**asked["limits"]))
        await uow.add(run)
        announce_run(uow, run)
        await count_run(uow)
        return run.id

    parent_id, step_id = parent.id, step.id
    started = await start_as(uow, caller_of(uow, parent), start)
    if isinstance(started, RefusalError):
        parent = await uow.get(Run, parent_id, lock=True)
        step = await uow.first(steps_of_run(parent).where(Step.id == step_id))
        step.child_used = _NOTHING
        fail_wait(uow, parent, step, started.code, started.detail)
        return
    step.child_run_id = started
    step.updated_at, step.version = uow.now, step.version + 1


async def _attach(uow: UnitOfWork, run: Run, parent: Run, step: Step, limits: Limits) -> None:
    """Make a run that is about to start the child that the step waits for."""
    run.parent_run_id, run.parent_step_id, run.root_run_id = parent.id, step.id, parent.root_run_id
    run.limits = told_limits(below(Limits(**run.limits), run.depth).tightened(limits))
    run.plays_writes = parent.plays_writes
    if run.flow_group is not None and await _is_within(uow, parent, run.flow_group):
        run.flow_group = None
    if parent.forked_from is not None:
        of_original = select(Step.child_run_id).where(
            Step.organization_id == run.organization_id,
            Step.run_id == parent.forked_from,
            Step.node == step.node,
            Step.iteration == step.iteration,
            Step.child_run_id.is_not(None),
        )
        run.forked_from = await uow.first(of_original.limit(1))


async def _is_within(uow: UnitOfWork, above: Run, group: UUID) -> bool:
    """Whether a run above has a place in this group: what that waits for goes in its place, or both wait for ever."""
    at: Run | None = above
    while at is not None:
        if at.flow_group == group:
            return True
        at = None if at.parent_run_id is None else await uow.find(Run, at.parent_run_id)
    return False


async def _tell(uow: UnitOfWork, parent: Run, step: Step, child: Run, objects: Objects) -> None:
    """The child's end is its step's; the time it was busy is its parent's too."""
    waited = parent.waited
    await _settle(uow, step, child)
    if child.status == RunStatus.COMPLETED:
        output = await read_payload(child.output, child.output_ref, objects)
        await complete_wait(uow, parent, step, output, objects=objects)
    else:
        why = child.stop_reason or child.error_code or "somebody stopped it"
        fail_wait(uow, parent, step, f"child_{child.status}", f"The run {child.id} has {child.status}: {why}.")
    parent.waited = max(waited, parent.waited - _busy(child))


async def _let_go(uow: UnitOfWork, parent: Run, step: Step, child: Run | None) -> bool:
    """Nobody waits for the child: it is stopped, killed with its parent, and counted once it has ended."""
    if child is None or child.status in FINAL:
        await _settle(uow, step, child)
    else:
        why, switch_id = "The run that started it no longer waits for it.", parent.kill_switch_id
        if switch_id is not None:
            why = parent.cancel_reason or why
        await cancel_run(uow, child.id, reason=why, killed_by=switch_id)
    step.child_told = True
    step.updated_at, step.version = uow.now, step.version + 1
    return True


async def _settle(uow: UnitOfWork, step: Step, child: Run | None) -> None:
    """Note what the child and its own children have used."""
    if child is None:
        step.child_used = _NOTHING
        return
    child.parent_told = True
    columns = (Step.status, Step.will_retry, Step.child, Step.child_used)
    steps = await uow.execute(steps_of_run(child).with_only_columns(*columns))
    own = Usage(
        cost_usd_micros=child.cost_usd_micros,
        tokens=child.input_tokens + child.output_tokens,
        steps=sum(1 for each in steps if each.status != StepStatus.SKIPPED and not each.will_retry),
    )
    step.child_used = told_usage(total(own, *(_used(each) for each in steps)))


def _used(step: Any) -> Usage:
    """What the child that a step is has used; one that is not over may still use all that it was promised."""
    if step.child_used is not None:
        return usage_of(step.child_used)
    return used_by(Limits(**step.child["limits"])) if step.child is not None else Usage()


def _busy(run: Run) -> timedelta:
    """How long a run that has ended was worked on, without what it has waited for somebody."""
    if run.started_at is None or run.completed_at is None:
        return timedelta(0)
    return max(timedelta(0), run.completed_at - run.started_at - run.waited)
