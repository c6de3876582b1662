"""Schedules, and which of them started a run."""

from alembic import op

from chassis.migration import isolate, security_definer

revision = "0007"
down_revision = "0006"

SERVICE, DOORS = "execution", "remit_execution"
TABLE = """create table schedule (
  id uuid primary key, organization_id uuid not null, workspace_id uuid not null, name text not null,
  execution_type text not null, definition_id uuid not null, semver text not null, input jsonb not null,
  priority integer, cron text not null, time_zone text not null, missed_ticks text not null, caller jsonb not null,
  created_by text not null, paused_at timestamptz, pause_reason text not null default '', next_tick_at timestamptz,
  last_tick_at timestamptz, last_run_id uuid, last_error_code text not null default '',
  last_error_detail text not null default '', created_at timestamptz not null, updated_at timestamptz not null,
  version integer not null
)"""
INDEXES = (
    """create unique index schedule_organization_id_workspace_id_name_key on schedule
  (organization_id, workspace_id, name)""",
    "create index schedule_organization_id_created_at_id_idx on schedule (organization_id, created_at desc, id desc)",
    "create index schedule_organization_id_created_by_idx on schedule (organization_id, created_by)",
    "create index schedule_due_idx on schedule (next_tick_at) where next_tick_at is not null",
)
DUE = """create function due_schedules(most integer) returns table (organization_id uuid, id uuid)
language sql stable security definer set search_path = public, pg_temp as $$
  select s.organization_id, s.id from schedule s where s.next_tick_at <= now() order by s.next_tick_at limit most $$"""


def upgrade() -> None:
    _run([TABLE, "alter table run add column schedule_id uuid, add column tick_at timestamptz", *INDEXES, DUE])
    _run(isolate(SERVICE, "schedule"))
    _run(security_definer(SERVICE, "due_schedules(integer)"))


def downgrade() -> None:
    _run([
        "drop function due_schedules(integer)",
        "alter table run drop column schedule_id, drop column tick_at",
        "drop table schedule",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
