"""Waits for people, clocks and signals: when a run looks again by itself, and how many answers came for its steps."""

from alembic import op

revision = "0009"
down_revision = "0008"

DOORS, SWEEP = "remit_execution", "remit_execution_sweep"
KINDS = ["agent", "tool", "parallel", "map", "branch", "loop", "wait", "subrun"]
WAITS = ["approval", "timer", "signal"]
"""A waiting step says what it waits for."""
WAKES = "status, waiting_for, waiting_since, waited, wake_at, updated_at, version"


def upgrade() -> None:
    _run([
        "alter table run add column wake_at timestamptz, add column answers integer not null default 0",
        "create index run_wake_at_idx on run (wake_at) where status = 'waiting' and wake_at is not null",
        "alter table step drop constraint step_kind_check",
        f"alter table step add constraint step_kind_check check (kind in ({_listed(KINDS + WAITS)}))",
        f"grant update (wake_at, answers) on run to {DOORS}",
        f"grant select (answers, waiting_since, waited, wake_at, version) on run to {SWEEP}",
        f"grant update ({WAKES}) on run to {SWEEP}",
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        f"revoke update ({WAKES}) on run from {SWEEP}",
        "alter table step drop constraint step_kind_check",
        f"alter table step add constraint step_kind_check check (kind in ({_listed(KINDS)})) not valid",
        "drop index run_wake_at_idx",
        "alter table run drop column wake_at, drop column answers",
    ])  # fmt: skip


def _listed(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
