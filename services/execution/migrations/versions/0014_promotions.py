"""Of which version of another workspace a version is a copy."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.get_bind().exec_driver_sql("alter table agent_version add column promoted_from uuid")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("alter table agent_version drop column promoted_from")
