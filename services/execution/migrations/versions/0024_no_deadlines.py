"""Runs have a time-out, by the time they were at work; a moment at which they have to be over nobody ever set."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.get_bind().exec_driver_sql("alter table run drop column deadline_at")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("alter table run add column deadline_at timestamptz")
