"""Forks: runs that go on from a step of another one, with what came before it kept, and writes only played."""

from alembic import op

revision = "0010"
down_revision = "0009"

DOORS = "remit_execution"
# Steps are the engine's to store: whoever forks a run may only copy some.
COPIES_ONLY = f"""create policy step_copies_only on step as restrictive for insert to {DOORS}
with check (organization_id = nullif(current_setting('app.organization_id', true), '')::uuid
  and copied_from is not null)"""


def upgrade() -> None:
    _run([
        "alter table run add column plays_writes boolean not null default false",
        "alter table step add column copied_from uuid",
        f"grant insert on step to {DOORS}",
        COPIES_ONLY,
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        "drop policy step_copies_only on step",
        f"revoke insert on step from {DOORS}",
        "alter table step drop column copied_from",
        "alter table run drop column plays_writes",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
