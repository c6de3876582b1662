"""Approvals: asked by runs and promotions, decided by one person who did not ask, or by nobody in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, select, update

from chassis.caller import Caller
from chassis.errors import NotFoundError
from chassis.uow import UnitOfWork
from contracts.execution import ApprovalWanted
from contracts.policy import ApprovalDecided, ApprovalExpired, ApprovalRequested, ApprovalState, ApprovalWithdrawn
from pdp.matrix import allowed
from policy.domain.approvals import (
    ApprovalStatus,
    Asked,
    Outcome,
    Person,
    Withdrawal,
    expiry_of,
    is_repeated,
    names_of,
    require_may_decide,
)
from policy.tables.approvals import ApprovalRequest
from policy.usecases.bundles import find_longest_approval
from resources.filters import Where
from resources.listing import Resource, counter, lister
from resources.patches import touch


def _to_decide(uow: UnitOfWork, where: Where) -> str:
    """What names the caller as somebody who may decide."""
    names = sorted(_names_of(uow))
    return f"approvers ?| {where.parameter(names)}::text[]" if names else ""


APPROVALS = Resource(
    ApprovalRequest,
    filters=(
        "id", "status", "run_id", "step_id", "promotion_id", "action", "resource_type", "resource_id", "requester_id",
        "created_by", "approver_id", "policy_id", "rule_name", "expires_at", "created_at", "decided_at",
    ),
    sorts=("id", "created_at", "expires_at"),
    default_sort="-id",
    also=_to_decide,
    words={"status": ApprovalStatus},
)  # fmt: skip
list_approvals = lister(APPROVALS)
count_approvals = counter(APPROVALS)

EXPIRED_AT_ONCE = 500
F = TypeVar("F", bound=ApprovalState)


async def request_approvals(
    uow: UnitOfWork, wanted: Sequence[ApprovalWanted], *, run_id: UUID | None = None, promotion_id: UUID | None = None
) -> None:
    """Ask people for what a run, or a promotion, wants approved; asking again with the same id asks once."""
    new = [each for each in wanted if await uow.find(ApprovalRequest, each.approval_id) is None]
    most = await find_longest_approval(uow) if new else None
    for each in new:
        row = _new_request(uow, each)
        row.run_id, row.promotion_id = run_id, promotion_id
        row.expires_at = expiry_of(uow.now, seconds=each.expires_in_seconds, until=each.expires_at, most_seconds=most)
        await uow.add(row)
        uow.emit(_told(ApprovalRequested, row))


async def get_approval(uow: UnitOfWork, approval_id: UUID) -> ApprovalRequest:
    """One request; also for whoever it names to decide."""
    return await _read(uow, approval_id)


async def decide_approval(
    uow: UnitOfWork, approval_id: UUID, *, outcome: Outcome, reason: str, digest: str | None
) -> ApprovalRequest:
    """Approve or reject it, once and for all; the same person saying the same again changes nothing.

    ForbiddenError for keys, for whoever asked, and for whoever is not named; ConflictError `already_decided`,
    `approval_expired`, `approval_withdrawn`, or `digest_mismatch` where what was seen is not what is asked.
    """
    row = await _read(uow, approval_id, lock=True)
    person, asked = _person(uow), _asked(row)
    if is_repeated(asked, person, outcome):
        return row
    require_may_decide(asked, person, uow.now, digest)
    row.status, row.approver_id, row.decided_at, row.reason = outcome, uow.caller.owner_id, uow.now, reason
    row.approved_at = uow.now if outcome == "approved" else None
    touch(uow, row)
    uow.emit(_told(ApprovalDecided, row, outcome=outcome))
    return row


async def withdraw_approvals(
    uow: UnitOfWork, why: Withdrawal, run_ids: Sequence[UUID], step_ids: Sequence[UUID] | None = None
) -> None:
    """Nobody has to decide about these runs any more, or about these steps of them; what was decided stays decided."""
    pending = update(ApprovalRequest).where(
        ApprovalRequest.organization_id == uow.organization_id,
        ApprovalRequest.run_id.in_(run_ids),
        ApprovalRequest.status == ApprovalStatus.PENDING,
    )
    if step_ids is not None:
        pending = pending.where(ApprovalRequest.step_id.in_(step_ids))
    await _close(uow, pending.values(reason=why), ApprovalStatus.WITHDRAWN, ApprovalWithdrawn)


async def withdraw_promotions(uow: UnitOfWork, promotion_ids: Sequence[UUID]) -> None:
    """Nobody has to decide about these promotions any more; what was decided stays decided."""
    pending = update(ApprovalRequest).where(
        ApprovalRequest.organization_id == uow.organization_id,
        ApprovalRequest.id.in_(promotion_ids),
        ApprovalRequest.promotion_id.is_not(None),
        ApprovalRequest.status == ApprovalStatus.PENDING,
    )
    pending = pending.values(reason=Withdrawal.PROMOTION_REFUSED)
    await _close(uow, pending, ApprovalStatus.WITHDRAWN, ApprovalWithdrawn)


async def find_due_organizations(uow: UnitOfWork) -> list[UUID]:
    """Organizations where nobody has decided in time."""
    return list(await uow.all(select(func.due_approvals(EXPIRED_AT_ONCE).column_valued())))


async def expire_approvals(uow: UnitOfWork) -> int:
    """What nobody in the organization decided in time counts as rejected; returns how many."""
    due = (
        select(ApprovalRequest.id)
        .where(
            ApprovalRequest.organization_id == uow.organization_id,
            ApprovalRequest.status == ApprovalStatus.PENDING,
            ApprovalRequest.expires_at <= uow.now,
        )
        .order_by(ApprovalRequest.expires_at)
        .limit(EXPIRED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    pending = update(ApprovalRequest).where(ApprovalRequest.id.in_(due))
    return await _close(uow, pending, ApprovalStatus.EXPIRED, ApprovalExpired)


async def _close(uow: UnitOfWork, pending: Any, status: ApprovalStatus, fact: type[ApprovalState]) -> int:
    values = {"status": status, "updated_at": uow.now, "version": ApprovalRequest.version + 1}
    rows = await uow.all(pending.values(**values).returning(ApprovalRequest))
    for row in rows:
        uow.emit(_told(fact, row))
    return len(rows)


def _told(fact: type[F], row: ApprovalRequest, **more: Any) -> F:
    return fact.of(row, owner_id=row.created_by, run_id=row.run_id or row.promotion_id, **more)


async def _read(uow: UnitOfWork, approval_id: UUID, *, lock: bool = False) -> ApprovalRequest:
    """The request; whoever may only see their own also sees what names them to decide."""
    row = await uow.find(ApprovalRequest, approval_id, lock=lock)
    if row is None:
        raise NotFoundError("There is no approval with this id.")
    named = not _names_of(uow).isdisjoint(row.approvers)
    mine = [uow.caller.owner_id] if named else []
    owner = uow.caller.owner_id if named and uow.permit.own_only else row.created_by
    uow.permit.check("approval", str(approval_id), {"created_by": owner, "approver_ids": mine})
    return row


def _names_of(uow: UnitOfWork) -> set[str]:
    """By what names the caller decides; none where its role never does, whatever a rule says."""
    caller: Caller = uow.caller
    decides = uow.permit.permission == "approval:decide" or allowed(caller.roles, "approval:decide") != "no"
    return names_of(_person(uow)) if decides else set()


def _person(uow: UnitOfWork) -> Person:
    caller: Caller = uow.caller
    ids = caller.id, caller.owner_id
    return Person(caller.user_id is not None, ids, caller.roles, decides_all=not uow.permit.own_only)


def _asked(row: ApprovalRequest) -> Asked:
    requesters = (row.requester_id, row.created_by)
    return Asked(row.status, requesters, row.approvers, row.approver_id, row.digest, row.expires_at, row.reason)


def _new_request(uow: UnitOfWork, wanted: ApprovalWanted) -> ApprovalRequest:
    return ApprovalRequest(
        id=wanted.approval_id,
        organization_id=uow.organization_id,
        step_id=wanted.step_id,
        action=wanted.action,
        resource_type=wanted.resource_type,
        resource_id=wanted.resource_id,
        requester_id=wanted.requester_id,
        created_by=wanted.owner_id,
        approvers=wanted.approvers,
        digest=wanted.digest,
        context=wanted.shown,
        policy_id=wanted.policy_id,
        rule_name=wanted.rule_name,
        asked_because=wanted.reason,
        status=ApprovalStatus.PENDING,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
