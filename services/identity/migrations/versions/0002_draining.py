"""Workspaces that take no new runs."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Every workspace there is goes on as before."""
    op.get_bind().exec_driver_sql(
        """alter table workspace add column status text not null default 'active'
  constraint workspace_status_check check (status in ('active', 'draining'))"""
    )


def downgrade() -> None:
    """What drains takes runs again."""
    op.get_bind().exec_driver_sql("alter table workspace drop column status")
