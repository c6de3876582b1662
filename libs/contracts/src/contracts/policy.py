"""Facts of policy: policies, the bundle each service decides with, decisions, and approvals by people."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from contracts.envelope import Fact


class PolicyState(Fact):
    """What changed about a policy; its text travels in the bundle."""

    subject_field: ClassVar = "policy_id"

    policy_id: UUID
    version: int
    name: str
    policy_type: str
    is_enabled: bool
    priority: int
    revision: int
    rules_sha256: str


class PolicyCreated(PolicyState):
    """A policy was written."""

    type: ClassVar = "policy.policy.created.v1"


class PolicyUpdated(PolicyState):
    """A policy's rules, priority or state changed."""

    type: ClassVar = "policy.policy.updated.v1"


class PolicyDeleted(PolicyState):
    """A policy is gone."""

    type: ClassVar = "policy.policy.deleted.v1"


class PolicyAssignmentState(Fact):
    """A policy bound to a team or a user."""

    subject_field: ClassVar = "assignment_id"

    assignment_id: UUID
    policy_id: UUID
    assignee_type: str
    """team or user."""
    assignee_id: UUID


class PolicyAssigned(PolicyAssignmentState):
    """A policy was assigned to a team or a user."""

    type: ClassVar = "policy.assignment.created.v1"


class PolicyUnassigned(PolicyAssignmentState):
    """A policy's assignment was removed."""

    type: ClassVar = "policy.assignment.deleted.v1"


class BundleState(Fact):
    """All enabled policies of an organization, as every service compiles and decides with them."""

    subject_field: ClassVar = "organization_id"

    organization_id: UUID
    version: int
    """The bundle's revision: higher is newer."""
    source: str
    """The canonical text that `pdp.Bundle.load` compiles."""
    source_sha256: str


class BundlePublished(BundleState):
    """An organization's rules changed; decide with this from now on."""

    type: ClassVar = "policy.bundle.published.v1"
    security: ClassVar = True


class BundleRestated(BundleState):
    """An organization's current bundle, published again for a projection."""

    type: ClassVar = "policy.bundle.restated.v1"
    security: ClassVar = True


class DecisionRecorded(Fact):
    """A decision was taken, with the rule that decided. Produced by whichever service decided, as its own type."""

    subject_field: ClassVar = "decision_id"

    decision_id: UUID
    effect: str
    """allow, deny or require_approval."""
    action: str
    resource_type: str
    resource_id: str
    principal_type: str
    principal_id: str
    owner_id: str = ""
    """Whose the question is where a right reaches only one's own: the user, also of a key; empty: the principal."""
    rule_name: str
    policy_id: UUID | None = None
    bundle_revision: int
    reason: str = ""
    obligations: list[dict[str, Any]] = []
    error: bool = False
    run_id: UUID | None = None


class ExecutionDecisionRecorded(DecisionRecorded):
    """The execution service decided about a run."""

    type: ClassVar = "execution.decision.recorded.v1"


class IdentityDecisionRecorded(DecisionRecorded):
    """The identity service denied a request."""

    type: ClassVar = "identity.decision.recorded.v1"


class BillingDecisionRecorded(DecisionRecorded):
    """The billing service denied a request."""

    type: ClassVar = "billing.decision.recorded.v1"


class PolicyDecisionRecorded(DecisionRecorded):
    """The policy service denied a request."""

    type: ClassVar = "policy.decision.recorded.v1"


class GatewayDecisionRecorded(DecisionRecorded):
    """The gateway service denied a request."""

    type: ClassVar = "gateway.decision.recorded.v1"


class AuditDecisionRecorded(DecisionRecorded):
    """The audit service denied a request."""

    type: ClassVar = "audit.decision.recorded.v1"


DECIDED: dict[str, type[DecisionRecorded]] = {
    "identity": IdentityDecisionRecorded,
    "billing": BillingDecisionRecorded,
    "policy": PolicyDecisionRecorded,
    "gateway": GatewayDecisionRecorded,
    "execution": ExecutionDecisionRecorded,
    "audit": AuditDecisionRecorded,
}


class ApprovalState(Fact):
    """A request for a person's approval: what is asked, by its digest, and for which run or promotion."""

    subject_field: ClassVar = "approval_id"

    approval_id: UUID
    run_id: UUID
    """Where a promotion asks, the promotion's id again: there is no such run."""
    step_id: UUID | None = None
    """None where the run itself may not start before."""
    promotion_id: UUID | None = None
    """None where a run asks."""
    action: str
    resource_type: str
    resource_id: str
    requester_id: str
    owner_id: str = ""
    digest: str
    expires_at: datetime


class ApprovalRequested(ApprovalState):
    """Somebody has to decide before a run goes on."""

    type: ClassVar = "policy.approval.requested.v1"

    approvers: list[str] = []


class ApprovalDecided(ApprovalState):
    """A person approved or rejected it."""

    type: ClassVar = "policy.approval.decided.v1"

    outcome: str
    """approved or rejected."""
    approver_id: str
    """The user who decided."""
    decided_at: datetime
    reason: str = ""


class ApprovalExpired(ApprovalState):
    """Nobody decided in time, by policy's clock: it counts as rejected."""

    type: ClassVar = "policy.approval.expired.v1"


class ApprovalWithdrawn(ApprovalState):
    """What was asked about is over before anybody decided: there is nothing to decide any more."""

    type: ClassVar = "policy.approval.withdrawn.v1"

    reason: str = ""
    """run_failed, run_cancelled, run_timed_out, step_skipped or promotion_refused."""
