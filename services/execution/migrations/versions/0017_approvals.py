"""Promotions that somebody has to approve; and a run that waits for an approval follows its caller's role."""

from alembic import op

from chassis.migration import isolate

revision = "0017"
down_revision = "0016"

SERVICE, DOORS, BATCH = "execution", "remit_execution", "remit_execution_batch"
REQUEST = """create table promotion_request (
  id uuid primary key, organization_id uuid not null, agent_id uuid not null,
  agent_version_id uuid not null references agent_version (id), semver text not null, digest text not null,
  from_workspace_id uuid not null, to_workspace_id uuid not null, approvers jsonb not null,
  approval_digest text not null, caller jsonb not null, created_by text not null, traceparent text not null,
  correlation_id text not null, status text not null, approver_id text, reason text, decided_at timestamptz,
  error_code text, error_message text, promoted_agent_id uuid, created_at timestamptz not null,
  updated_at timestamptz not null, version integer not null,
  constraint promotion_request_status_check check (status in ('pending', 'promoted', 'rejected', 'expired', 'failed')),
  constraint promotion_request_reason_check check (length(reason) <= 2000)
)"""
INDEXES = (
    """create index promotion_request_organization_id_agent_id_created_at_id_idx
  on promotion_request (organization_id, agent_id, created_at desc, id desc)""",
    """create unique index promotion_request_pending_key
  on promotion_request (organization_id, agent_version_id, to_workspace_id) where status = 'pending'""",
)


def upgrade() -> None:
    _run([
        f"grant update (caller) on run to {DOORS}",
        "alter table workspace add column required_approvers jsonb not null default '[]'",
        REQUEST, *INDEXES,
        *isolate(SERVICE, "promotion_request", privileges="select, insert, update"),
        f"revoke insert, update on promotion_request from {BATCH}",
    ])  # fmt: skip


def downgrade() -> None:
    _run(
        [
            "drop table promotion_request",
            "alter table workspace drop column required_approvers",
            f"revoke update (caller) on run from {DOORS}",
        ]
    )


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
