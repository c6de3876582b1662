"""Lists of runs that did not succeed do not read those that did."""

from alembic import op

revision = "0005"
down_revision = "0004"

INDEX = """create index run_unsuccessful_idx on run (organization_id, created_at desc, id desc)
where status in ('failed', 'cancelled', 'timed_out')"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(INDEX)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop index run_unsuccessful_idx")
