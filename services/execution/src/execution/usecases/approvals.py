"""Approvals: what people say, through policy, of what a run asked them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from sqlalchemy import select

from chassis.errors import RefusalError
from chassis.ids import new_id
from chassis.objects import NoObjects, read_payload
from chassis.rules import DeniedError, record_denial, rules_in, told
from chassis.uow import UnitOfWork
from contracts.execution import RunFailed
from contracts.policy import ApprovalDecided, ApprovalState
from execution.domain.nodes import OnError
from execution.domain.runs import Limits, RunStatus, WaitingFor, require_transition
from execution.domain.waits import APPROVED, EXPIRED
from execution.tables.runs import Run
from execution.usecases.engine_waits import digest_of_step
from execution.usecases.run_gates import is_approved_as_asked
from execution.usecases.run_subjects import Kind, find_subject
from execution.usecases.runs import announce_run, decide_run
from execution.usecases.starts import caller_of
from execution.usecases.steps import queue_again
from execution.usecases.waits import Waiting, complete_wait, fail_wait, find_approval_wait

_HERE = NoObjects()
"""What an approver is shown, and what is said of it, is always in the row."""


async def answer_approval(uow: UnitOfWork, fact: ApprovalState) -> None:
    """Take up what policy says of an approval that a run's step waits for; what nobody waits for changes nothing."""
    run = await uow.find(Run, fact.run_id, lock=True)
    if run is not None and fact.step_id is None:
        await _answer_gate(uow, run, fact)
        return
    if run is None or run.status not in (RunStatus.WAITING, RunStatus.RUNNING, RunStatus.QUEUED):
        return
    waiting = await find_approval_wait(uow, run, fact.step_id)
    if waiting is not None:
        await _answer(uow, run, waiting, fact)


async def _answer_gate(uow: UnitOfWork, run: Run, fact: ApprovalState) -> None:
    """The run itself waits to start: it is decided again, as its caller's; a denial that appeared meanwhile wins."""
    if run.status != RunStatus.WAITING or run.waiting_for != WaitingFor.APPROVAL or run.decision_id != fact.approval_id:
        return
    outcome = fact.outcome if isinstance(fact, ApprovalDecided) else EXPIRED
    await uow.become(caller_of(uow, run))
    if not is_approved_as_asked(run, fact.digest):
        _fail(uow, run, "approval_digest_mismatch", "What was approved is not what was asked.")
    elif outcome != APPROVED:
        _fail(uow, run, f"approval_{outcome}", getattr(fact, "reason", "") or "Nobody approved it.")
    else:
        await _start(uow, run)


async def fail_gated_runs(uow: UnitOfWork, owner_id: str) -> None:
    """Whoever asked may not act any more: their runs that wait for an approval to start never do."""
    for run in await _gated_runs(uow, owner_id):
        _fail(uow, run, "caller_gone", "Whoever asked for it may not act any more.")


async def give_gated_runs_role(uow: UnitOfWork, owner_id: str, role: str) -> None:
    """From now on this user's runs that wait for an approval to start are decided on with this role."""
    for run in await _gated_runs(uow, owner_id):
        run.caller = {**run.caller, "roles": [role]}


async def _gated_runs(uow: UnitOfWork, owner_id: str) -> list[Run]:
    gated = (Run.status == RunStatus.WAITING) & (Run.waiting_for == WaitingFor.APPROVAL) & Run.started_at.is_(None)
    mine = select(Run).where(Run.organization_id == uow.organization_id, gated, Run.created_by == owner_id)
    return list(await uow.all(mine.order_by(Run.id).with_for_update()))


async def _start(uow: UnitOfWork, run: Run) -> None:
    kind: Kind = "agent" if run.agent_id else "orchestration"
    reference, opened = str(run.agent_id or run.orchestration_id), run.decision["approval"]["gates"]
    try:
        subject = await find_subject(uow, kind, reference, workspace=None, semver=run.semver)
        decision = decide_run(uow, subject, await rules_in(uow), run.trigger_type, opened, depth=run.depth)
    except RefusalError as refusal:
        if isinstance(refusal, DeniedError):
            record_denial(uow, refusal)
        _fail(uow, run, refusal.code, refusal.detail)
        return
    run.decision_id, run.decision = new_id(), told(decision)
    run.limits = asdict(Limits(**run.limits).tightened(Limits.of_decision(decision.limits())))
    if decision.approval is None:
        queue_again(uow, run)
        run.queued_at, run.waited = uow.now, timedelta(0)  # its own time has not begun
    run.updated_at, run.version = uow.now, run.version + 1
    announce_run(uow, run)


def _fail(uow: UnitOfWork, run: Run, code: str, message: str) -> None:
    require_transition(RunStatus(run.status), RunStatus.FAILED)
    run.status, run.waiting_for, run.completed_at = RunStatus.FAILED, None, uow.now
    run.error_code, run.error_message = code, message
    run.updated_at, run.version = uow.now, run.version + 1
    uow.emit(RunFailed.of(run, owner_id=run.created_by))


async def _answer(uow: UnitOfWork, run: Run, waiting: Waiting, fact: ApprovalState) -> None:
    step, node = waiting
    if fact.digest != digest_of_step(run, await read_payload(step.input, step.input_ref, _HERE)):
        fail_wait(uow, run, step, "approval_digest_mismatch", "What was approved is not what was asked.")
        return
    told = {"outcome": EXPIRED}
    if isinstance(fact, ApprovalDecided):
        told = {"outcome": fact.outcome, "approver_id": fact.approver_id, "reason": fact.reason}
    if told["outcome"] == APPROVED or node.on_refusal is OnError.SKIP:
        await complete_wait(uow, run, step, told, objects=_HERE)
    else:
        fail_wait(uow, run, step, f"approval_{told['outcome']}", told.get("reason") or "Nobody approved it.")
