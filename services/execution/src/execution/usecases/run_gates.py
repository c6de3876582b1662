"""Runs that may not start before a person has approved: what is asked, and of whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from chassis.uow import UnitOfWork
from contracts.execution import ApprovalWanted, RunWaitStarted
from execution.domain.runs import WaitingFor
from execution.tables.runs import Run
from execution.usecases.engine_waits import digest_of_step


def ask_approval(uow: UnitOfWork, run: Run) -> None:
    """Ask for what the run's decision requires; the request has the decision's id."""
    shown, approval = shown_of(run), run.decision["approval"]
    wanted = ApprovalWanted(
        approval_id=run.decision_id,
        action=f"{run.execution_type}:execute",
        resource_type=run.execution_type,
        resource_id=str(run.agent_id or run.orchestration_id),
        requester_id=run.triggered_by,
        owner_id=run.created_by,
        approvers=approval["approvers"],
        digest=digest_of_step(run, shown),
        shown=shown,
        expires_at=uow.now + timedelta(seconds=approval["expires_in_seconds"]),
        expires_in_seconds=approval["expires_in_seconds"],
        policy_id=run.decision["policy_id"],
        rule_name=run.decision["rule_name"],
        reason=run.decision["reason"],
    )
    uow.emit(
        RunWaitStarted.of(run, owner_id=run.created_by, waiting_for=WaitingFor.APPROVAL, approvals=[wanted])
    )  # fmt: skip


def shown_of(run: Run) -> dict[str, Any]:
    """What an approver is told of the run, the same whenever it is asked.

    Not its input: this travels in facts, and whoever may decide may read the run. The digest holds the input too.
    """
    return {"semver": run.semver, "trigger": run.trigger_type, "limits": run.limits}


def is_approved_as_asked(run: Run, digest: str) -> bool:
    """Whether what was approved is what the run would do now."""
    return digest == digest_of_step(run, shown_of(run))
