"""Approvals that a promotion asks for, not a run."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _run([
        "alter table approval_request add column promotion_id uuid",
        "alter table approval_request alter column run_id drop not null",
        """alter table approval_request add constraint approval_request_asked_for_check
        check ((run_id is null) <> (promotion_id is null))""",
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        "delete from approval_request where run_id is null",
        "alter table approval_request drop constraint approval_request_asked_for_check",
        "alter table approval_request alter column run_id set not null",
        "alter table approval_request drop column promotion_id",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
