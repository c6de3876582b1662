"""Facts of execution: agents, orchestrations and their versions, model credentials, runs and steps."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.envelope import Fact


class AgentState(Fact):
    """What changed about an agent."""

    subject_field: ClassVar = "agent_id"

    agent_id: UUID
    workspace_id: UUID
    version: int
    name: str
    agent_type: str
    status: str
    risk_level: str
    current_version: str = ""
    changes: dict[str, list[Any]] = {}
    """What changed: `{field: [before, after]}`."""


class AgentCreated(AgentState):
    """An agent was registered."""

    type: ClassVar = "execution.agent.created.v1"


class AgentUpdated(AgentState):
    """An agent's description, status or current version changed."""

    type: ClassVar = "execution.agent.updated.v1"


class AgentDeleted(AgentState):
    """An agent may not be run any more; its history stays."""

    type: ClassVar = "execution.agent.deleted.v1"


class AgentVersionCreated(Fact):
    """An immutable revision of an agent was saved."""

    type: ClassVar = "execution.agent_version.created.v1"
    subject_field: ClassVar = "agent_version_id"

    agent_version_id: UUID
    agent_id: UUID
    workspace_id: UUID
    semver: str
    digest: str
    change_summary: str = ""


class OrchestrationState(Fact):
    """What changed about an orchestration."""

    subject_field: ClassVar = "orchestration_id"

    orchestration_id: UUID
    workspace_id: UUID
    version: int
    name: str
    pattern: str
    status: str
    current_version: str = ""
    changes: dict[str, list[Any]] = {}
    """What changed: `{field: [before, after]}`."""


class OrchestrationCreated(OrchestrationState):
    """An orchestration was registered."""

    type: ClassVar = "execution.orchestration.created.v1"


class OrchestrationUpdated(OrchestrationState):
    """An orchestration's description, status or current version changed."""

    type: ClassVar = "execution.orchestration.updated.v1"


class OrchestrationDeleted(OrchestrationState):
    """An orchestration may not be run any more; its history stays."""

    type: ClassVar = "execution.orchestration.deleted.v1"


class OrchestrationVersionCreated(Fact):
    """An immutable revision of an orchestration was saved."""

    type: ClassVar = "execution.orchestration_version.created.v1"
    subject_field: ClassVar = "orchestration_version_id"

    orchestration_version_id: UUID
    orchestration_id: UUID
    workspace_id: UUID
    semver: str
    digest: str
    change_summary: str = ""


class ModelCredentialState(Fact):
    """What changed about a provider key; never the key."""

    subject_field: ClassVar = "model_credential_id"

    model_credential_id: UUID
    version: int
    name: str
    provider: str
    changes: dict[str, list[Any]] = {}
    """What changed: `{field: [before, after]}`."""


class ModelCredentialCreated(ModelCredentialState):
    """A provider key was stored, sealed."""

    type: ClassVar = "execution.model_credential.created.v1"


class ModelCredentialUpdated(ModelCredentialState):
    """A provider key was replaced."""

    type: ClassVar = "execution.model_credential.updated.v1"


class ModelCredentialDeleted(ModelCredentialState):
    """A provider key was destroyed."""

    type: ClassVar = "execution.model_credential.deleted.v1"


class ModelPriceState(Fact):
    """What a model costs an organization, in micro-USD per million tokens, from a moment on."""

    subject_field: ClassVar = "model_price_id"

    model_price_id: UUID
    version: int
    provider: str
    model_name: str
    """A name, or the beginning of names and a star."""
    input_usd_micros_per_million: int
    output_usd_micros_per_million: int
    valid_from: datetime
    changes: dict[str, list[Any]] = {}
    """What changed: `{field: [before, after]}`."""


class ModelPriceCreated(ModelPriceState):
    """An organization said what a model costs."""

    type: ClassVar = "execution.model_price.created.v1"


class ModelPriceUpdated(ModelPriceState):
    """A price was corrected; what was booked before names the version before."""

    type: ClassVar = "execution.model_price.updated.v1"


class ModelPriceDeleted(ModelPriceState):
    """A price was taken back."""

    type: ClassVar = "execution.model_price.deleted.v1"


class KillSwitchState(Fact):
    """What nothing may run of, and why."""

    subject_field: ClassVar = "kill_switch_id"

    kill_switch_id: UUID
    version: int
    scope: str
    """organization, workspace, agent, version or run."""
    target_id: UUID
    reason: str = ""


class KillSwitchEngaged(KillSwitchState):
    """Everything in the scope is stopped and nothing of it starts until the switch is released."""

    type: ClassVar = "execution.kill_switch.engaged.v1"
    security: ClassVar = True


class KillSwitchReleased(KillSwitchState):
    """Runs of the scope may start again; what was stopped stays stopped."""

    type: ClassVar = "execution.kill_switch.released.v1"
    security: ClassVar = True


class ScheduleState(Fact):
    """What runs by the clock."""

    subject_field: ClassVar = "schedule_id"

    schedule_id: UUID
    workspace_id: UUID
    version: int
    name: str
    execution_type: str
    definition_id: UUID
    """The agent or orchestration."""
    cron: str
    time_zone: str
    changes: dict[str, list[Any]] = {}
    """What changed: `{field: [before, after]}`."""


class ScheduleCreated(ScheduleState):
    """A schedule was made."""

    type: ClassVar = "execution.schedule.created.v1"


class ScheduleUpdated(ScheduleState):
    """A schedule was changed."""

    type: ClassVar = "execution.schedule.updated.v1"


class SchedulePaused(ScheduleState):
    """A schedule starts nothing until it is resumed."""

    type: ClassVar = "execution.schedule.paused.v1"

    pause_reason: str = ""


class ScheduleResumed(ScheduleState):
    """A schedule starts runs again, from its next tick on."""

    type: ClassVar = "execution.schedule.resumed.v1"


class ScheduleDeleted(ScheduleState):
    """A schedule is gone; the runs it started stay."""

    type: ClassVar = "execution.schedule.deleted.v1"


class ScheduleTicked(Fact):
    """A schedule's moment came: it started a run, or was refused one."""

    type: ClassVar = "execution.schedule.ticked.v1"
    subject_field: ClassVar = "schedule_id"

    schedule_id: UUID
    workspace_id: UUID
    tick_at: datetime
    run_id: UUID | None = None
    """None where the run was refused."""
    error_code: str = ""


class RunFact(Fact):
    """What every fact of a run names."""

    subject_field: ClassVar = "run_id"

    run_id: UUID
    workspace_id: UUID
    owner_id: str = ""
    """Whose run it is: its caller's user, or `api_key:<id>`."""


class RunQueued(RunFact):
    """A run was accepted and waits for a worker."""

    type: ClassVar = "execution.run.queued.v1"

    execution_type: str
    """agent or orchestration."""
    agent_id: UUID | None = None
    orchestration_id: UUID | None = None
    semver: str
    config_digest: str
    trigger_type: str
    """api, cli, mcp, scheduled, child or fork."""
    triggered_by: str
    """A user id, or `api_key:<id>`."""
    decision_id: UUID
    root_run_id: UUID
    parent_run_id: UUID | None = None
    parent_step_id: UUID | None = None
    """Of a child run: the step of its parent that it is."""
    forked_from: UUID | None = None


class RunStarted(RunFact):
    """A worker claimed a run for the first time."""

    type: ClassVar = "execution.run.started.v1"


class StepEnded(RunFact):
    """One attempt at a step ended; what it used is booked from this, whether it succeeded or not."""

    step_id: UUID
    node: str
    iteration: int
    attempt: int
    kind: str
    agent_id: UUID | None = None
    agent_semver: str = ""
    provider: str = ""
    model_name: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd_micros: int = 0
    price_version: str = ""
    started_at: datetime
    ended_at: datetime


class StepCompleted(StepEnded):
    """An attempt at a step succeeded."""

    type: ClassVar = "execution.step.completed.v1"


class StepFailed(StepEnded):
    """An attempt at a step failed."""

    type: ClassVar = "execution.step.failed.v1"

    error_code: str
    will_retry: bool


class StepSkipped(RunFact):
    """A step that waited is not waited for any more, though its run goes on; a run's end says it of all its steps."""

    type: ClassVar = "execution.step.skipped.v1"

    step_id: UUID
    node: str
    iteration: int
    attempt: int
    kind: str


class StepDecided(RunFact):
    """A person said what became of a write that was tried and of which nobody knew whether it happened."""

    type: ClassVar = "execution.step.decided.v1"

    step_id: UUID
    node: str
    iteration: int
    attempt: int
    outcome: str
    """completed, failed or retry."""
    reason: str = ""


class ApprovalWanted(BaseModel):
    """What a person other than the requester has to approve before a run goes on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    approval_id: UUID
    """The request's id, made by whoever asks: asking again with the same id asks once."""
    step_id: UUID | None = None
    """The step that waits; None where the run itself may not start before."""
    action: str
    resource_type: str
    resource_id: str
    requester_id: str
    """Who asks: a user id, or `api_key:<id>`."""
    owner_id: str
    """Whose the question is: the user, also of a key. Neither of both may approve."""
    approvers: list[str] = []
    """Who may decide: `role:<role>`, `user:<id>`; empty: everybody with the right to decide."""
    digest: str
    """SHA-256 (hex) of what is asked: an approval is good for exactly this."""
    shown: dict[str, Any] = {}
    """What the approver is shown of it."""
    expires_at: datetime
    """By the clock of whoever asks."""
    expires_in_seconds: float | None = None
    """How long to wait by policy's clock, in place of `expires_at`; None: until then."""
    policy_id: UUID | None = None
    rule_name: str = ""
    reason: str = ""


class RunWaitStarted(RunFact):
    """A run waits, held by nobody."""

    type: ClassVar = "execution.run.wait_started.v1"

    waiting_for: str
    """approval, timer, signal, child; step: calls go on alone; decision: a person has to say what became of `step_ids`.
    """
    step_ids: list[UUID] = []
    approvals: list[ApprovalWanted] = []


class RunSignalled(RunFact):
    """Somebody sent a run the signal that steps of it waited for."""

    type: ClassVar = "execution.run.signalled.v1"

    name: str
    step_ids: list[UUID] = []


class RunEnded(RunFact):
    """A run reached its end; the sums are those of all its attempts."""

    agent_id: UUID | None = None
    orchestration_id: UUID | None = None
    execution_type: str
    step_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd_micros: int = 0
    error_code: str = ""
    stop_reason: str = ""


class RunCompleted(RunEnded):
    """A run finished with an output."""

    type: ClassVar = "execution.run.completed.v1"


class RunFailed(RunEnded):
    """A run ended without an output."""

    type: ClassVar = "execution.run.failed.v1"


class RunCancelled(RunEnded):
    """A run was stopped because somebody asked."""

    type: ClassVar = "execution.run.cancelled.v1"


class RunTimedOut(RunEnded):
    """A run was stopped because its time was up."""

    type: ClassVar = "execution.run.timed_out.v1"


class RunCancelRequested(RunFact):
    """A caller asked to stop a run that has not finished."""

    type: ClassVar = "execution.run.cancel_requested.v1"

    reason: str = ""
