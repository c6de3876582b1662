"""Facts of execution about which version may run, and which runs where."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from contracts.envelope import Fact
from contracts.execution import AgentState, ApprovalWanted, OrchestrationState


class AgentRolledBack(AgentState):
    """An earlier version of an agent runs again; `changes` says from which to which."""

    type: ClassVar = "execution.agent.rolled_back.v1"

    reason: str = ""


class AgentPromoted(AgentState):
    """A version of an agent runs in the next workspace too: the same content under the same number."""

    type: ClassVar = "execution.agent.promoted.v1"

    agent_version_id: UUID
    digest: str
    from_agent_id: UUID
    from_workspace_id: UUID
    promoted_from: UUID
    """The version that was copied."""


class PromotionState(Fact):
    """A promotion into a workspace that wants an approval of it."""

    subject_field: ClassVar = "promotion_id"

    promotion_id: UUID
    version: int
    agent_id: UUID
    agent_version_id: UUID
    semver: str
    digest: str
    """Of the version's configuration."""
    from_workspace_id: UUID
    to_workspace_id: UUID
    owner_id: str = ""
    """Whose the promotion is: the user, also of a key."""


class PromotionRequested(PromotionState):
    """A promotion waits for what people say of it."""

    type: ClassVar = "execution.promotion.requested.v1"

    approval: ApprovalWanted


class PromotionCompleted(PromotionState):
    """A promotion was approved and done."""

    type: ClassVar = "execution.promotion.completed.v1"

    promoted_agent_id: UUID


class PromotionRefused(PromotionState):
    """A promotion will not be done: nobody approved it, or it could not be done any more."""

    type: ClassVar = "execution.promotion.refused.v1"

    error_code: str


class OrchestrationRolledBack(OrchestrationState):
    """An earlier version of an orchestration runs again; `changes` says from which to which."""

    type: ClassVar = "execution.orchestration.rolled_back.v1"

    reason: str = ""


class AllowedHostState(Fact):
    """A host that agents of the organization may name, or everything below one."""

    subject_field: ClassVar = "allowed_host_id"

    allowed_host_id: UUID
    version: int
    host: str


class AllowedHostCreated(AllowedHostState):
    """From now on versions that name this host may pass their scan."""

    type: ClassVar = "execution.allowed_host.created.v1"


class AllowedHostDeleted(AllowedHostState):
    """From now on versions that name this host fail their scan, unless no list is left."""

    type: ClassVar = "execution.allowed_host.deleted.v1"


class EvaluationState(Fact):
    """The evals of an agent's version, run once."""

    subject_field: ClassVar = "evaluation_id"

    evaluation_id: UUID
    version: int
    workspace_id: UUID
    agent_id: UUID
    agent_version_id: UUID
    semver: str
    eval_count: int


class EvaluationStarted(EvaluationState):
    """A run was queued for each eval of a version."""

    type: ClassVar = "execution.evaluation.started.v1"


class EvaluationCompleted(EvaluationState):
    """Every run of an evaluation is over and was judged."""

    type: ClassVar = "execution.evaluation.completed.v1"

    passed_count: int
    failed_count: int
    error_count: int
    """Evals without an answer, or whose expression had no truth for it."""
