"""Runs that a kill switch has stopped, the newest first: their children are looked for a while."""

from alembic import op

revision = "0023"
down_revision = "0021"

STOPPED = """create index run_stopped_idx on run (organization_id, kill_switch_id, cancel_requested_at desc)
  where kill_switch_id is not null"""
BEFORE = (
    """create index run_kill_switch_id_idx on run (organization_id, kill_switch_id) where kill_switch_id is not null"""
)


def upgrade() -> None:
    _run(STOPPED, "drop index run_kill_switch_id_idx")


def downgrade() -> None:
    _run(BEFORE, "drop index run_stopped_idx")


def _run(*statements: str) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
