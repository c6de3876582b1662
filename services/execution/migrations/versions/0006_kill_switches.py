"""Kill switches, and which of them stopped a run."""

from alembic import op

from chassis.migration import isolate, security_definer

revision = "0006"
down_revision = "0005"

SERVICE, DOORS, BATCH, SWEEP = "execution", "remit_execution", "remit_execution_batch", "remit_execution_sweep"
TABLE = """create table kill_switch (
  id uuid primary key, organization_id uuid not null, scope text not null, target_id uuid not null,
  reason text not null, created_by text not null, released_at timestamptz, released_by text,
  created_at timestamptz not null, updated_at timestamptz not null, version integer not null,
  constraint kill_switch_scope_check check (scope in ('organization', 'workspace', 'agent', 'version', 'run'))
)"""
INDEXES = (
    """create unique index kill_switch_engaged_key on kill_switch (organization_id, scope, target_id)
  where released_at is null""",
    """create index kill_switch_organization_id_created_at_id_idx on kill_switch
  (organization_id, created_at desc, id desc)""",
    """create index run_kill_switch_id_idx on run (organization_id, kill_switch_id) where kill_switch_id is not null""",
)
ENGAGED = """create function engaged_kill_switches() returns table (organization_id uuid, id uuid)
language sql stable security definer set search_path = public, pg_temp as $$
  select k.organization_id, k.id from kill_switch k where k.released_at is null order by k.id limit 1000 $$"""
READS = "organization_id, scope, target_id, released_at"
RUN_READS = "agent_id, version_id, pins, root_run_id"


def upgrade() -> None:
    _run([TABLE, "alter table run add column kill_switch_id uuid", *INDEXES, ENGAGED])
    columns = READS.split(", ")
    _run(isolate(SERVICE, "kill_switch", privileges="select, insert, update", sweep_columns=columns))
    _run(security_definer(SERVICE, "engaged_kill_switches()"))
    _run([f"grant update (kill_switch_id) on run to {DOORS}", f"grant select ({RUN_READS}) on run to {SWEEP}"])


def downgrade() -> None:
    _run([
        f"revoke select ({RUN_READS}) on run from {SWEEP}",
        "drop function engaged_kill_switches()",
        "alter table run drop column kill_switch_id",
        "drop table kill_switch",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
