"""Approvals, and decisions that ask for one."""

from alembic import op

from chassis.migration import isolate, security_definer

revision = "0002"
down_revision = "0001"

_REQUEST = """create table approval_request (
  id uuid constraint approval_request_pkey primary key, organization_id uuid not null,
  run_id uuid not null, step_id uuid, action text not null, resource_type text not null, resource_id text not null,
  requester_id text not null, created_by text not null, approvers jsonb not null, digest text not null,
  context jsonb not null, policy_id uuid, rule_name text not null, asked_because text not null,
  status text not null check (status in ('pending', 'approved', 'rejected', 'expired', 'withdrawn')),
  approver_id text, approved_at timestamptz, decided_at timestamptz, reason text check (length(reason) <= 2000),
  expires_at timestamptz not null, created_at timestamptz not null, updated_at timestamptz not null,
  version integer not null
)"""
_INDEXES = (
    "create index approval_request_organization_id_id_idx on approval_request (organization_id, id)",
    "create index approval_request_organization_id_created_by_idx on approval_request (organization_id, created_by, id)",
    """create index approval_request_pending_run_idx on approval_request (organization_id, run_id)
  where status = 'pending'""",
    "create index approval_request_due_idx on approval_request (expires_at) where status = 'pending'",
)
# Expiry finds what is due whosever it is: ids only; each is then expired under its organization's row security.
_DUE = """create function due_approvals(most integer) returns setof uuid
language sql stable security definer set search_path = public, pg_temp as $$
  select distinct organization_id from (
    select a.organization_id from approval_request a where a.status = 'pending' and a.expires_at <= now()
    order by a.expires_at limit most) due $$"""


def upgrade() -> None:
    _run([
        _REQUEST, *_INDEXES, _DUE,
        "alter table decision drop constraint decision_effect_check",
        """alter table decision add constraint decision_effect_check
        check (effect in ('allow', 'deny', 'require_approval'))""",
    ])  # fmt: skip
    _run(isolate("policy", "approval_request", batch=False, privileges="select, insert, update"))
    _run(security_definer("policy", "due_approvals(integer)"))


def downgrade() -> None:
    _run([
        "drop function due_approvals(integer)",
        "drop table approval_request",
        "delete from decision where effect = 'require_approval'",
        "alter table decision drop constraint decision_effect_check",
        "alter table decision add constraint decision_effect_check check (effect in ('allow', 'deny'))",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
