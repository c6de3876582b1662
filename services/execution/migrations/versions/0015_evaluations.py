"""Evaluations of agents' versions, and what came of each eval."""

from alembic import op

from chassis.migration import isolate, security_definer

revision = "0015"
down_revision = "0014"

SERVICE = "execution"
BATCH = "remit_execution_batch"
STAMPS = "created_at timestamptz not null, updated_at timestamptz not null, version integer not null"
EVALUATION = f"""create table evaluation (
  id uuid primary key, organization_id uuid not null, workspace_id uuid not null, agent_id uuid not null,
  agent_version_id uuid not null references agent_version (id), semver text not null, created_by text not null,
  completed_at timestamptz, eval_count smallint not null, passed_count smallint not null,
  failed_count smallint not null, error_count smallint not null, {STAMPS},
  constraint evaluation_eval_count_check check (eval_count between 1 and 50)
)"""
RESULT = f"""create table evaluation_result (
  id uuid primary key, organization_id uuid not null, evaluation_id uuid not null references evaluation (id),
  position smallint not null, name text not null, run_id uuid not null, retention_class smallint not null,
  status text, verdict text, error_code text not null, {STAMPS},
  constraint evaluation_result_name_check check (length(name) between 1 and 100),
  constraint evaluation_result_verdict_check check (verdict in ('true', 'false', 'error'))
)"""
INDEXES = (
    """create index evaluation_organization_id_version_created_at_id_idx
  on evaluation (organization_id, agent_version_id, created_at desc, id desc)""",
    "create index evaluation_open_idx on evaluation (organization_id, id) where completed_at is null",
    """create unique index evaluation_result_organization_id_evaluation_id_position_key
  on evaluation_result (organization_id, evaluation_id, position)""",
    "create index evaluation_result_organization_id_run_id_idx on evaluation_result (organization_id, run_id)",
)
# Across organizations, and only ids: an evaluation is due when a run of it is over, or gone with its retention.
DUE = """create function due_evaluations(most integer) returns table (organization_id uuid, id uuid)
language sql stable security definer set search_path = public, pg_temp as $$
  select e.organization_id, e.id from evaluation e where e.completed_at is null and exists (
    select from evaluation_result x
    left join run r on r.retention_class = x.retention_class and r.id = x.run_id
    where x.organization_id = e.organization_id and x.evaluation_id = e.id and x.verdict is null
      and (r.id is null or r.status in ('completed', 'failed', 'cancelled', 'timed_out'))
  ) order by e.id limit most $$"""


def upgrade() -> None:
    _run([EVALUATION, RESULT, *INDEXES, DUE])
    for table in ("evaluation", "evaluation_result"):
        _run(isolate(SERVICE, table, privileges="select, insert, update"))
        _run([f"revoke insert, update on {table} from {BATCH}"])
    _run(security_definer(SERVICE, "due_evaluations(integer)"))


def downgrade() -> None:
    _run(["drop function due_evaluations(integer)", "drop table evaluation_result, evaluation"])


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
