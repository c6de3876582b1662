from alembic import op

from chassis.migration import chassis_tables, isolate

revision = "0001"
down_revision = None

PARCEL = """create table parcel (
  id uuid primary key, organization_id uuid not null, name text not null, created_by text not null,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  version integer not null default 1
)"""


def upgrade() -> None:
    for statement in chassis_tables("billing"):
        op.execute(statement)
    op.execute(PARCEL)
    op.execute(
        "create index parcel_organization_id_created_at_id_idx on parcel (organization_id, created_at desc, id desc)"
    )
    for statement in isolate("billing", "parcel"):
        op.execute(statement)
