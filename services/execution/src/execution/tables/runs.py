"""Runs, their steps, and the keys that make starting one safe to repeat.

Partitioned by retention class (days kept), then by month of the UUIDv7; a look-up by id probes four small indexes.
The engine writes runs and steps in batches with SQL of its own; these classes are how everything else reads them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Json, Row, Stamped

RETENTION_CLASSES = (30, 90, 365, 2555)
OPEN = "status in ('scheduled', 'queued', 'running', 'waiting', 'cancelling')"
BEGUN = "(token > 0 or parent_run_id is not null)"
"""Of a queued run: a worker has had it, or it is a part of another run. A workspace that drains lets only such in."""


class Run(Stamped, Row):
    """One execution of an agent or orchestration: what was asked, by whom, what was decided, how far it is."""

    __tablename__ = "run"

    retention_class: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    gateway_id: Mapped[UUID | None]
    execution_type: Mapped[str]
    """agent or orchestration."""
    agent_id: Mapped[UUID | None]
    orchestration_id: Mapped[UUID | None]
    version_id: Mapped[UUID]
    """The pinned `agent_version` or `orchestration_version`, whose `graph` and `config` are immutable."""
    semver: Mapped[str]
    config_digest: Mapped[str]
    pins: Mapped[Json]
    """Each agent the graph names: `{alias: {agent_id, version_id, semver}}`; an agent's own run pins itself."""
    limits: Mapped[Json]
    """The caps of this run after its decision's obligations, as `domain.runs.Limits` names them."""
    caller: Mapped[Json]
    """Who asked: `{kind, id, user_id, roles, scopes}`, to decide again when rules have changed."""
    created_by: Mapped[str]
    triggered_by: Mapped[str]
    """A user id, or `api_key:<id>`."""
    trigger_type: Mapped[str]
    decision_id: Mapped[UUID]
    decision: Mapped[Json]
    """`{effect, rule_name, policy_id, bundle_revision, reason, obligations}`."""
    status: Mapped[str]
    waiting_for: Mapped[str | None]
    priority: Mapped[int] = mapped_column(SmallInteger)
    input: Mapped[bytes | None]
    """JSON up to 64 KB; larger ones are objects, and `input_ref` is their key."""
    input_ref: Mapped[str | None]
    output: Mapped[bytes | None]
    output_ref: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    stop_reason: Mapped[str | None]
    queued_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    step_count: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)
    traceparent: Mapped[str]
    correlation_id: Mapped[str]
    parent_run_id: Mapped[UUID | None]
    parent_step_id: Mapped[UUID | None]
    parent_told: Mapped[bool] = mapped_column(default=False)
    """Of a child that has ended: whether its parent's step knows."""
    root_run_id: Mapped[UUID]
    forked_from: Mapped[UUID | None]
    depth: Mapped[int] = mapped_column(SmallInteger)
    token: Mapped[int] = mapped_column(BigInteger)
    """The fence: who holds the newest may write."""
    last_step: Mapped[int]
    """How many writes of its holders are stored: a write that was not the next one changes nothing."""
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    takeovers: Mapped[int]
    cancel_requested_at: Mapped[datetime | None]
    cancel_reason: Mapped[str | None]

    waiting_since: Mapped[datetime | None]
    wake_at: Mapped[datetime | None]
    """When a run that waits looks again by itself."""
    answers: Mapped[int]
    """How often somebody has answered one of its waiting steps; a worker that has not seen all may not let go."""
    waited: Mapped[timedelta]
    """How long it has waited for somebody so far: no part of the time it may take."""
    plays_writes: Mapped[bool]
    """Of a fork: its writes are not done, but played from what the original's gave."""
    schedule_id: Mapped[UUID | None]
    tick_at: Mapped[datetime | None]
    """Of a scheduled run: by which schedule, and for which of its ticks."""
    kill_switch_id: Mapped[UUID | None]
    """The switch that stopped it."""
    flow_group: Mapped[UUID | None]
    """Among which runs it is counted that may be under way at the same time; a hash of definition and key."""
    pace_group: Mapped[UUID | None]
    """The same for starts in a time."""
    flow_since: Mapped[datetime | None]
    """Since when it has its place in its groups; it keeps it until it ends."""
    hold: Mapped[str | None]
    """Why admission has put it aside until its group moves: `concurrency` or `rate`."""

    @property
    def has_begun(self) -> bool:
        """Whether it goes on in a workspace that drains: as `BEGUN`."""
        return self.token > 0 or self.parent_run_id is not None

    __table_args__ = (
        Index("run_organization_id_created_at_id_idx", "organization_id", text("created_at desc"), text("id desc")),
        Index(
            "run_open_idx", "organization_id", "workspace_id", "status", "hold", text("priority desc"), "id",
            postgresql_where=text(OPEN),
        ),
        Index(
            "run_begun_idx", "organization_id", "workspace_id", "hold", text("priority desc"), "id",
            postgresql_where=text(f"status = 'queued' and {BEGUN}"),
        ),
        Index(
            "run_place_idx", "organization_id", "flow_group",
            postgresql_where=text(f"flow_since is not null and {OPEN}"),
        ),
        Index(
            "run_held_place_idx", "organization_id", "flow_group", text("priority desc"), "id",
            postgresql_where=text("hold = 'concurrency' and status = 'queued'"),
        ),
        Index(
            "run_held_pace_idx", "organization_id", "pace_group", text("priority desc"), "id",
            postgresql_where=text("hold = 'rate' and status = 'queued'"),
        ),
        Index(
            "run_unsuccessful_idx", "organization_id", text("created_at desc"), text("id desc"),
            postgresql_where=text("status in ('failed', 'cancelled', 'timed_out')"),
        ),
        Index(
            "run_stopped_idx", "organization_id", "kill_switch_id", text("cancel_requested_at desc"),
            postgresql_where=text("kill_switch_id is not null"),
        ),
        Index(
            "run_organization_id_parent_run_id_idx", "organization_id", "parent_run_id",
            postgresql_where=text("parent_run_id is not null"),
        ),
        Index(
            "run_parent_untold_idx", "organization_id", "id",
            postgresql_where=text("parent_step_id is not null and not parent_told and "
                                  "status in ('completed', 'failed', 'cancelled', 'timed_out')"),
        ),
        Index(
            "run_wake_at_idx", "wake_at", postgresql_where=text("status = 'waiting' and wake_at is not null"),
        ),
        {"postgresql_partition_by": "list (retention_class)"},
    )  # fmt: skip
    # Ids are unique by themselves: a run is found without knowing its class.
    __mapper_args__ = {"primary_key": [id]}


class Step(Stamped, Row):
    """One attempt at a unit of work inside a run, partitioned like its run."""

    __tablename__ = "step"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    retention_class: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    id: Mapped[UUID]
    step_number: Mapped[int]
    """The order in which the steps of a run were started, from 1."""
    kind: Mapped[str]
    effects: Mapped[str]
    agent_id: Mapped[UUID | None]
    agent_version_id: Mapped[UUID | None]
    agent_semver: Mapped[str]
    status: Mapped[str]
    input: Mapped[bytes | None]
    input_ref: Mapped[str | None]
    output: Mapped[bytes | None]
    output_ref: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    will_retry: Mapped[bool]
    provider: Mapped[str]
    model_name: Mapped[str]
    price_version: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    token: Mapped[int] = mapped_column(BigInteger)
    copied_from: Mapped[UUID | None]
    """Of a fork: the step of the original whose output this is."""
    child_run_id: Mapped[UUID | None]
    """Of a child run's step: the run, once it has been started."""
    child: Mapped[Json | None]
    """What is to run, and what it may use: `{orchestration_id, semver, limits}`; of a detached call only `limits`."""
    child_used: Mapped[Json | None]
    """What it and its own children have used: `{cost_usd_micros, tokens, steps}`."""
    child_told: Mapped[bool] = mapped_column(default=False)
    """Whether it was stopped after the step had been skipped."""
    lease_until: Mapped[datetime | None]
    """Of a call that runs detached from its run: until when its worker is believed to be alive."""

    __table_args__ = (
        Index(
            "step_child_due_idx", "organization_id", "run_id", "id",
            postgresql_where=text("kind = 'subrun' and (status = 'waiting' and child_run_id is null or "
                                  "status = 'skipped' and not child_told)"),
        ),
        Index(
            "step_lease_idx", "lease_until", postgresql_where=text("status = 'waiting' and lease_until is not null"),
        ),
        {"postgresql_partition_by": "list (retention_class)"},
    )  # fmt: skip


class IdempotencyKey(Row):
    """What a caller's `Idempotency-Key` stood for: the same key gives the same run for a day."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("idempotency_key_organization_id_expires_at_idx", "organization_id", "expires_at"),)

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    caller_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[bytes]
    run_id: Mapped[UUID]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
