"""What every service must know of an organization before it acts in it: is it active, and which rules hold.

Both are projections in one small table per service, read again at most a second later, so that a suspension or a new
bundle holds everywhere within two seconds, in every process, and outlives a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.db import begin
from chassis.errors import ForbiddenError
from chassis.ids import new_id
from chassis.permits import Permit
from contracts.identity import (
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationRestated,
    OrganizationResumed,
    OrganizationState,
    OrganizationSuspended,
    OrganizationUpdated,
)
from contracts.policy import DECIDED, BundlePublished, BundleRestated, BundleState
from pdp.bundle import Bundle
from pdp.decide import Decision, DecisionRequest, Principal, Resource, RunContext, decide
from pdp.matrix import allowed, masked_fields
from pdp.request import ApprovalRule

if TYPE_CHECKING:
    from chassis.uow import UnitOfWork

FRESH_SECONDS = 1.0
_CACHED = 4096

_READ = "select status, bundle_version from organization_rules where organization_id = $1"
_READ_SOURCE = "select bundle_source from organization_rules where organization_id = $1"
_READ_ALL = "select status, bundle_version, bundle_source from organization_rules where organization_id = $1"
_PROJECT_STATUS = """insert into organization_rules as r (organization_id, status, status_version) values ($1, $2, $3)
on conflict (organization_id) do update set status = excluded.status, status_version = excluded.status_version
where r.status_version < excluded.status_version"""
_PROJECT_BUNDLE = """insert into organization_rules as r (organization_id, bundle_version, bundle_source)
values ($1, $2, $3) on conflict (organization_id) do update
set bundle_version = excluded.bundle_version, bundle_source = excluded.bundle_source
where r.bundle_version < excluded.bundle_version"""


@dataclass(slots=True)
class Rules:
    """One organization's state as this process last saw it."""

    status: str
    """active, suspended, deleted; unknown before its first fact has arrived."""
    bundle_version: int
    bundle: Bundle | None
    read_at: float


class RuleBook:
    """The rules of every organization this process has met lately."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._known: dict[UUID, Rules] = {}
        self._reading: dict[UUID, asyncio.Task[Rules]] = {}

    async def of(self, organization_id: UUID) -> Rules:
        """The organization's status and compiled bundle, at most a second old."""
        rules = self._known.get(organization_id)
        if rules is not None and time.monotonic() - rules.read_at < FRESH_SECONDS:
            return rules
        reading = self._reading.get(organization_id)  # of many requests at once, one reads
        if reading is None:
            reading = self._reading[organization_id] = asyncio.create_task(self._read(organization_id, rules))
            reading.add_done_callback(lambda _: self._reading.pop(organization_id, None))
        return await asyncio.shield(reading)

    async def _read(self, organization_id: UUID, old: Rules | None) -> Rules:
        async with begin(self._engine, organization_id) as (_, raw):
            row = await raw.fetchrow(_READ, organization_id)
            if row is None:
                rules = Rules("unknown", 0, None, time.monotonic())
            elif old is not None and old.bundle_version == row["bundle_version"]:
                rules = Rules(row["status"], old.bundle_version, old.bundle, time.monotonic())
            else:
                source = await raw.fetchval(_READ_SOURCE, organization_id)
                bundle = await asyncio.to_thread(Bundle.load, source) if source else None
                rules = Rules(row["status"], row["bundle_version"], bundle, time.monotonic())
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[organization_id] = rules
        return rules


def admit(caller: Caller, permission: str, rules: Rules, *, named: bool) -> Permit:
    """The permit for a route's permission; ForbiddenError when roles, scopes or rules say no.

    `named` says that the route is about one thing (an id in its path): where the organization has rules, they are then
    asked with that thing in hand, by `UnitOfWork.get`. Otherwise they are asked here, about the kind alone.
    """
    if rules.status in ("suspended", "deleted"):
        raise ForbiddenError(f"This organization is {rules.status}.", code=f"organization_{rules.status}")
    if caller.scopes and not in_scope(caller.scopes, permission):
        raise ForbiddenError(f"This key's scopes do not include {permission}.", code="missing_scope")
    kind, bundle = permission.partition(":")[0], rules.bundle
    reach = bundle.allowed(caller.roles, permission) if bundle else allowed(caller.roles, permission)
    permit = Permit(permission, reach == "own", caller.owner_id, masked_fields(caller.roles, permission))
    if bundle is None or not bundle.has_rules(kind, permission):
        if reach == "no":
            raise ForbiddenError(f"Your role does not allow {permission}.", code="missing_permission")
        return permit

    def judge(kind: str, row_id: str, attributes: Mapping[str, Any]) -> Decision:
        decision = decide_for(caller, permission, rules, resource_of(caller, kind, row_id, attributes))
        if not decision.is_allowed:
            raise DeniedError(decision, kind, row_id, permission)
        return decision

    permit.judge = judge
    if not named:
        permit.own_only = judge(kind, "", {}).own_only
        permit.judged = True
    return permit


_OPENED_BY = {"run:create": ("agent:execute", "orchestration:execute")}
"""Who may execute may knock at the door of runs; `execute` of the very thing is decided behind it."""


def in_scope(scopes: frozenset[str], permission: str) -> bool:
    """Whether these scopes include the permission, by name or as `agent:*`."""
    if permission in scopes or f"{permission.partition(':')[0]}:*" in scopes:
        return True
    return any(in_scope(scopes, opener) for opener in _OPENED_BY.get(permission, ()))


async def rules_in(uow: UnitOfWork) -> Rules:
    """The rules of a unit of work's organization, read in it: for what is not a request and has no process's memory."""
    rows = await uow.fetch(_READ_ALL, uow.organization_id)
    if not rows:
        return Rules("unknown", 0, None, time.monotonic())
    status, version, source = rows[0]
    bundle = await asyncio.to_thread(Bundle.load, source) if source else None
    return Rules(status, version, bundle, time.monotonic())


class DeniedError(ForbiddenError):
    """A rule of the organization said no; the decision travels along, to be recorded."""

    def __init__(self, decision: Decision, kind: str, row_id: str, action: str) -> None:
        super().__init__(
            f"The rule {decision.rule_name!r} denies {action}" + (f": {decision.reason}." if decision.reason else "."),
            code="denied_by_policy",
        )
        self.decision, self.kind, self.row_id, self.action = decision, kind, row_id, action
        self.decision_id = new_id()


def decide_for(  # noqa: PLR0917
    caller: Caller,
    action: str,
    rules: Rules,
    resource: Resource,
    run: RunContext | None = None,
    approved: Collection[str] = (),
) -> Decision:
    """Take a decision in process: the role matrix, the key's scopes and the organization's rules together.

    `approved` are the gates that somebody has opened, as an earlier decision named them.
    """
    organization_id = str(caller.organization_id)
    principal = Principal(
        id=caller.owner_id,
        kind=caller.kind,
        roles=caller.roles,
        scopes=caller.scopes,
        organization_id=organization_id,
    )
    request = DecisionRequest(
        organization_id=organization_id,
        organization_status=rules.status,
        principal=principal,
        action=action,
        resource=resource,
        run=run,
        now=utc_now(),
    )
    return decide(request, rules.bundle, approved=approved)


def told(decision: Decision) -> dict[str, Any]:
    """A decision as rows and facts tell of it."""
    return {
        "effect": decision.effect,
        "rule_name": decision.rule_name,
        "policy_id": decision.policy_id or None,
        "bundle_revision": decision.bundle_revision,
        "reason": decision.reason,
        "obligations": [dict(obligation) for obligation in decision.obligations],
        "error": decision.error,
    } | ({"approval": _approval_of(decision.approval)} if decision.approval else {})


def _approval_of(approval: ApprovalRule) -> dict[str, Any]:
    return {
        "approvers": sorted(approval.approvers or ()),
        "expires_in_seconds": approval.expires_in_seconds,
        "gates": list(approval.gates),
    }


def record_decision(
    uow: UnitOfWork, told: Mapping[str, Any], *, decision_id: UUID, action: str, kind: str, row_id: str, **more: Any
) -> None:
    """Publish what was decided about the caller, as this service's fact."""
    caller = uow.caller
    about = {"decision_id": decision_id, "action": action, "resource_type": kind, "resource_id": row_id}
    who = {"principal_type": caller.kind, "principal_id": caller.id, "owner_id": caller.owner_id}
    uow.emit(DECIDED[uow.settings.service].model_validate({**told, **about, **who, **more}))


def record_denial(uow: UnitOfWork, denied: DeniedError) -> None:
    """Publish a denial: every one is on record, whichever door it came by."""
    told_of, decision_id = told(denied.decision), denied.decision_id
    record_decision(uow, told_of, decision_id=decision_id, action=denied.action, kind=denied.kind, row_id=denied.row_id)


def resource_of(caller: Caller, kind: str, row_id: str, attributes: Mapping[str, Any]) -> Resource:
    """A thing of the caller's organization, as a decision is asked about it."""
    return Resource(kind=kind, id=row_id, organization_id=str(caller.organization_id), attr=dict(attributes))


async def project_status(uow: UnitOfWork, fact: OrganizationState) -> None:
    """Remember whether an organization may act here."""
    await uow._raw.execute(_PROJECT_STATUS, fact.organization_id, fact.status, fact.version)  # noqa: SLF001


async def project_bundle(uow: UnitOfWork, fact: BundleState) -> None:
    """Remember the rules of an organization; the processes pick them up within a second."""
    await uow._raw.execute(_PROJECT_BUNDLE, fact.organization_id, fact.version, fact.source.encode())  # noqa: SLF001


STATUS_FACTS = (
    OrganizationCreated,
    OrganizationUpdated,
    OrganizationSuspended,
    OrganizationResumed,
    OrganizationDeleted,
    OrganizationRestated,
)
BUNDLE_FACTS = (BundlePublished, BundleRestated)
