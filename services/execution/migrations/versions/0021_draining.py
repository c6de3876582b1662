"""Workspaces that drain: what has begun there is let in without reading what has not."""

from alembic import op

from chassis.migration import role

revision = "0021"
down_revision = "0020"

SWEEP = role("execution", "sweep")
# Not `dispatched_at`: an update of what an index's condition names is never in place, and every run is dispatched.
BEGUN = """create index run_begun_idx on run (organization_id, workspace_id, hold, priority desc, id)
  where status = 'queued' and (token > 0 or parent_run_id is not null)"""
DRAINING = "create index workspace_draining_idx on workspace (organization_id, id) where status = 'draining'"


def upgrade() -> None:
    _run(BEGUN, DRAINING, f"grant select (parent_run_id) on run to {SWEEP}")


def downgrade() -> None:
    _run(f"revoke select (parent_run_id) on run from {SWEEP}", "drop index workspace_draining_idx, run_begun_idx")


def _run(*statements: str) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
