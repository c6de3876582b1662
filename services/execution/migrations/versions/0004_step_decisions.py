"""People decide about steps: what the doors may write of a step, and of a run that goes on."""

from alembic import op

revision = "0004"
down_revision = "0003"

DOORS = "remit_execution"
STEP_WRITES = "status, output, output_ref, error_code, error_message, will_retry, completed_at, updated_at, version"


def upgrade() -> None:
    _run(
        [
            f"grant update ({STEP_WRITES}) on step to {DOORS}",
            f"grant update (dispatched_at, step_count) on run to {DOORS}",
        ]
    )


def downgrade() -> None:
    _run([
        f"revoke update ({STEP_WRITES}) on step from {DOORS}",
        f"revoke update (dispatched_at, step_count) on run from {DOORS}",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
