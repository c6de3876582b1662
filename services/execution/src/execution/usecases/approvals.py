"""Approvals: what people say, through policy, of what a run asked them."""

from __future__ import annotations

from chassis.objects import NoObjects, read_payload
from chassis.uow import UnitOfWork
from contracts.policy import ApprovalDecided, ApprovalState
from execution.domain.nodes import OnError
from execution.domain.runs import RunStatus
from execution.domain.waits import APPROVED, EXPIRED
from execution.tables.runs import Run
from execution.usecases.engine_waits import digest_of_step
from execution.usecases.waits import Waiting, complete_wait, fail_wait, find_approval_wait

_HERE = NoObjects()
"""What an approver is shown, and what is said of it, is always in the row."""


async def answer_approval(uow: UnitOfWork, fact: ApprovalState) -> None:
    """Take up what policy says of an approval that a run's step waits for; what nobody waits for changes nothing."""
    run = await uow.find(Run, fact.run_id, lock=True)
    if run is None or run.status not in (RunStatus.WAITING, RunStatus.RUNNING):
        return
    waiting = await find_approval_wait(uow, run, fact.step_id)
    if waiting is not None:
        await _answer(uow, run, waiting, fact)


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
