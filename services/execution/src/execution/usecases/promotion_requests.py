"""Promotions that somebody has to approve: asked for once, done or refused once policy says what people decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import ConflictError, LimitExceededError, NotFoundError, RefusalError, UnavailableError
from chassis.ids import new_id
from chassis.rules import DeniedError, admit, record_denial, rules_in
from chassis.uow import UnitOfWork
from contracts.execution import ApprovalWanted
from contracts.policy import ApprovalDecided, ApprovalState
from contracts.releases import PromotionCompleted, PromotionRefused, PromotionRequested, PromotionState
from execution.domain.promotions import PromotionStatus, approvers_named, promotion_digest
from execution.tables.agents import Agent
from execution.tables.promotions import PromotionRequest
from execution.usecases.promotion_plans import Planned, carry_out, plan_agent_promotion
from execution.usecases.starts import caller_of
from pdp.matrix import ORGANIZATION_ROLES, allowed
from pdp.request import APPROVAL_SECONDS
from resources.listing import ListQuery, Page, Resource, lister
from resources.lives import get_living
from resources.patches import touch

PROMOTIONS = Resource(
    PromotionRequest,
    filters=("id", "status", "agent_version_id", "semver", "to_workspace_id", "created_by", "created_at"),
    words={"status": PromotionStatus},
)
_list_promotions = lister(PROMOTIONS)
MAX_PENDING = 200
"""Promotions of one organization that wait for an approval at once."""
PERMISSION = "agent:promote"
DECIDING_ROLES = frozenset(role for role in ORGANIZATION_ROLES if allowed((role,), "approval:decide") != "no")


async def list_promotions(uow: UnitOfWork, agent_id: UUID, query: ListQuery) -> Page:
    """The promotions of an agent that were to be approved, the newest first."""
    agent = await get_living(uow, Agent, agent_id)
    return await _list_promotions(uow, query, agent_id=agent.id)


async def get_promotion(uow: UnitOfWork, agent_id: UUID, promotion_id: UUID) -> PromotionRequest:
    """One of them."""
    agent = await get_living(uow, Agent, agent_id)
    found = await uow.find(PromotionRequest, promotion_id)
    if found is None or found.agent_id != agent.id:
        raise NotFoundError("There is no promotion with this id.")
    return found


async def request_promotion(uow: UnitOfWork, planned: Planned) -> PromotionRequest:
    """Ask people whether a version may go to a workspace; what is asked already is not asked again.

    ConflictError `nobody_may_approve`, LimitExceededError at the number of those that wait.
    """
    approvers = approvers_named(planned.place.required_approvers, DECIDING_ROLES)
    digest = _digest_of(planned, approvers)
    earlier = await _find_pending(uow, planned)
    if earlier is not None and earlier.approval_digest == digest:
        return earlier
    if earlier is not None:
        _refuse(uow, earlier, PromotionStatus.FAILED, "superseded", "Others are to be asked now.")
        await uow.flush()
    await _require_room(uow)
    row = await uow.add(_new_request(uow, planned, approvers, digest))
    uow.emit(_told(PromotionRequested, row, approval=await _wanted(uow, planned, row)))
    return row


async def answer_promotion(uow: UnitOfWork, promotion_id: UUID, fact: ApprovalState) -> None:
    """Take up what policy says of a promotion; what does not wait any more is not changed."""
    row = await uow.find(PromotionRequest, promotion_id)
    if row is None or row.status != PromotionStatus.PENDING:
        return
    await uow.become(caller_of(uow, row))
    if not isinstance(fact, ApprovalDecided):
        await _end(uow, row.id, PromotionStatus.EXPIRED, "approval_expired", "Nobody approved it.", fact)
    elif fact.outcome != "approved":
        why = fact.reason or "Nobody approved it."
        await _end(uow, row.id, PromotionStatus.REJECTED, "approval_rejected", why, fact)
    else:
        await _promote_or_fail(uow, row, fact)


async def fail_promotions(uow: UnitOfWork, owner_id: str) -> None:
    """Whoever asked may not act any more: what they wanted promoted is not."""
    for row in await _pending_of(uow, owner_id):
        _refuse(uow, row, PromotionStatus.FAILED, "caller_gone", "Whoever asked for it may not act any more.")


async def give_promotions_role(uow: UnitOfWork, owner_id: str, role: str) -> None:
    """From now on what this user wants promoted is done with this role, or not."""
    for row in await _pending_of(uow, owner_id):
        row.caller = {**row.caller, "roles": [role]}


async def _promote_or_fail(uow: UnitOfWork, row: PromotionRequest, fact: ApprovalDecided) -> None:
    promotion_id = row.id
    try:
        async with uow.savepoint():
            await _promote(uow, row, fact)
    except UnavailableError:
        raise
    except RefusalError as refusal:
        if isinstance(refusal, DeniedError):
            record_denial(uow, refusal)
        await _end(uow, promotion_id, PromotionStatus.FAILED, refusal.code, refusal.detail, fact)


async def _promote(uow: UnitOfWork, row: PromotionRequest, fact: ApprovalDecided) -> None:
    """Do it as whoever asked, by the rules of now, if it is still what was asked."""
    before, uow.permit = uow.permit, admit(uow.caller, PERMISSION, await rules_in(uow), named=True)
    try:
        planned = await plan_agent_promotion(uow, row.agent_id, to_workspace=row.to_workspace_id, semver=row.semver)
        approvers = approvers_named(planned.place.required_approvers, DECIDING_ROLES)
        if fact.digest != _digest_of(planned, approvers):
            raise ConflictError("What was approved is not what was asked.", code="approval_digest_mismatch")
        # Agents are locked before promotions, as where one is asked for.
        waiting = await _lock_pending(uow, row.id)
        if waiting is None:
            return
        done = await carry_out(uow, planned)
    finally:
        uow.permit = before
    _decided(waiting, fact)
    waiting.status, waiting.decided_at, waiting.promoted_agent_id = PromotionStatus.PROMOTED, uow.now, done.row.id
    touch(uow, waiting)
    uow.emit(_told(PromotionCompleted, waiting))


async def _end(  # noqa: PLR0917
    uow: UnitOfWork, promotion_id: UUID, status: PromotionStatus, code: str, message: str, fact: ApprovalState
) -> None:
    waiting = await _lock_pending(uow, promotion_id)
    if waiting is not None:
        _decided(waiting, fact)
        _refuse(uow, waiting, status, code, message)


async def _lock_pending(uow: UnitOfWork, promotion_id: UUID) -> PromotionRequest | None:
    row = await uow.find(PromotionRequest, promotion_id, lock=True)
    return row if row is not None and row.status == PromotionStatus.PENDING else None


def _decided(row: PromotionRequest, fact: ApprovalState) -> None:
    if isinstance(fact, ApprovalDecided):
        row.approver_id, row.reason = fact.approver_id, fact.reason or None


def _refuse(uow: UnitOfWork, row: PromotionRequest, status: PromotionStatus, code: str, message: str) -> None:
    row.status, row.decided_at, row.error_code, row.error_message = status, uow.now, code, message
    touch(uow, row)
    uow.emit(_told(PromotionRefused, row))


def _told(fact: type[PromotionState], row: PromotionRequest, **more: Any) -> PromotionState:
    return fact.of(row, owner_id=row.created_by, **more)


async def _find_pending(uow: UnitOfWork, planned: Planned) -> PromotionRequest | None:
    same = (PromotionRequest.agent_version_id == planned.version.id) & (
        PromotionRequest.to_workspace_id == planned.place.id
    )
    found: PromotionRequest | None = await uow.first(_pending(uow).where(same).with_for_update())
    return found


async def _pending_of(uow: UnitOfWork, owner_id: str) -> Sequence[PromotionRequest]:
    mine = _pending(uow).where(PromotionRequest.created_by == owner_id)
    found: Sequence[PromotionRequest] = await uow.all(mine.order_by(PromotionRequest.id).with_for_update())
    return found


def _pending(uow: UnitOfWork) -> Any:
    return select(PromotionRequest).where(
        PromotionRequest.organization_id == uow.organization_id, PromotionRequest.status == PromotionStatus.PENDING
    )


async def _require_room(uow: UnitOfWork) -> None:
    """Two that arrive together must not both take the last place."""
    name = f"promotion/{uow.organization_id}"
    await uow.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    if await uow.first(select(func.count()).select_from(_pending(uow).subquery())) >= MAX_PENDING:
        raise LimitExceededError(f"{MAX_PENDING} promotions wait for an approval already.", code="too_many_promotions")


def _digest_of(planned: Planned, approvers: Sequence[str]) -> str:
    return promotion_digest(
        agent_id=planned.source.id,
        version_id=planned.version.id,
        config_digest=planned.version.digest,
        from_to=(planned.source.workspace_id, planned.place.id),
        approvers=approvers,
    )


async def _wanted(uow: UnitOfWork, planned: Planned, row: PromotionRequest) -> ApprovalWanted:
    bundle = (await rules_in(uow)).bundle
    seconds = bundle.approval_seconds() if bundle else APPROVAL_SECONDS
    shown = {"agent": planned.source.name, "semver": row.semver, "digest": row.digest, "to": planned.place.name}
    caller = uow.caller
    return ApprovalWanted(
        approval_id=row.id,
        action=PERMISSION,
        resource_type="agent",
        resource_id=str(row.agent_id),
        requester_id=f"api_key:{caller.id}" if caller.kind == "api_key" else caller.id,
        owner_id=row.created_by,
        approvers=row.approvers,
        digest=row.approval_digest,
        shown=shown,
        expires_at=uow.now + timedelta(seconds=seconds),
        expires_in_seconds=seconds,
        rule_name="required-approvers",
        reason="The workspace wants to be asked.",
    )


def _new_request(uow: UnitOfWork, planned: Planned, approvers: list[str], digest: str) -> PromotionRequest:
    caller = uow.caller
    return PromotionRequest(
        id=new_id(),
        organization_id=uow.organization_id,
        agent_id=planned.source.id,
        agent_version_id=planned.version.id,
        semver=planned.version.semver,
        digest=planned.version.digest,
        from_workspace_id=planned.source.workspace_id,
        to_workspace_id=planned.place.id,
        approvers=approvers,
        approval_digest=digest,
        caller=caller.to_json(),
        created_by=caller.owner_id,
        traceparent=caller.traceparent,
        correlation_id=caller.correlation_id,
        status=PromotionStatus.PENDING,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
