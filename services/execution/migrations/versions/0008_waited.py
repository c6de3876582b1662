"""How long a run has waited for somebody: that time is not its own."""

from alembic import op

revision = "0008"
down_revision = "0007"

DOORS = "remit_execution"


def upgrade() -> None:
    _run([
        "alter table run add column waiting_since timestamptz, add column waited interval not null default '0'",
        f"grant update (waiting_since, waited) on run to {DOORS}",
    ])  # fmt: skip


def downgrade() -> None:
    _run(["alter table run drop column waiting_since, drop column waited"])


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
