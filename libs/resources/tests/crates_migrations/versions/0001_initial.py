from alembic import op

from chassis.migration import chassis_tables, isolate

revision = "0001"
down_revision = None

CRATE = """create table crate (
  id uuid primary key, organization_id uuid not null, name text not null, colour text, weight integer not null,
  is_open boolean not null default false, content jsonb not null default '{}', input jsonb not null default '{}',
  packed_on date, created_by text not null, created_at timestamptz not null, updated_at timestamptz not null,
  version integer not null, deleted_at timestamptz
)"""


def upgrade() -> None:
    for statement in chassis_tables("billing"):
        op.execute(statement)
    op.execute(CRATE)
    op.execute(
        "create index crate_organization_id_created_at_id_idx on crate (organization_id, created_at desc, id desc)"
    )
    op.execute("create index crate_organization_id_weight_id_idx on crate (organization_id, weight, id)")
    op.execute(
        "create unique index crate_organization_id_name_key on crate (organization_id, name) where deleted_at is null"
    )
    for statement in isolate("billing", "crate"):
        op.execute(statement)
