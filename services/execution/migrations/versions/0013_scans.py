"""The organization's list of hosts, and what earlier scans found in the form of today's."""

from alembic import op

from chassis.migration import isolate

revision = "0013"
down_revision = "0012"

SERVICE = "execution"
BATCH = "remit_execution_batch"
ALLOWED_HOST = """create table allowed_host (
  id uuid primary key, organization_id uuid not null, host text not null, created_by text not null,
  created_at timestamptz not null, updated_at timestamptz not null, version integer not null,
  constraint allowed_host_host_check check (length(host) between 1 and 253)
)"""
INDEXES = (
    "create unique index allowed_host_organization_id_host_key on allowed_host (organization_id, host)",
    """create index allowed_host_organization_id_created_at_id_idx
  on allowed_host (organization_id, created_at desc, id desc)""",
)
RENAMED = """update agent_version set security_scan_results = jsonb_build_object(
  'passed', security_scan_status = 'passed', 'left_out', 0, 'findings', (
    select coalesce(jsonb_agg((found - 'rule') || jsonb_build_object('code', found -> 'rule', 'message', '')), '[]')
    from jsonb_array_elements(security_scan_results -> 'findings') found))
where security_scan_results ? 'findings'"""


def upgrade() -> None:
    _run([ALLOWED_HOST, *INDEXES, *isolate(SERVICE, "allowed_host", privileges="select, insert, update, delete")])
    _run([f"revoke insert, update, delete on allowed_host from {BATCH}", RENAMED])


def downgrade() -> None:
    _run(["drop table allowed_host"])


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
