"""Approvals: a run that waits for one is decided on again by the role that its caller has then."""

from alembic import op

revision = "0016"
down_revision = "0015"

DOORS = "remit_execution"


def upgrade() -> None:
    _run([f"grant update (caller) on run to {DOORS}"])


def downgrade() -> None:
    _run([f"revoke update (caller) on run from {DOORS}"])


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
