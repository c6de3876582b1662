"""Child runs: which step of which run each is for, what it may use, and what its end has still to be told to."""

from alembic import op

from chassis.migration import security_definer

revision = "0016"
down_revision = "0015"

SERVICE, DOORS = "execution", "remit_execution"
# Whoever ends or skips something needs to know nothing of children: these indexes hold what is still to be done.
BEGUN = """kind = 'subrun' and (status = 'waiting' and child_run_id is null or status = 'skipped' and not child_told)"""
ENDED = """parent_step_id is not null and not parent_told
  and status in ('completed', 'failed', 'cancelled', 'timed_out')"""
# Across organizations, and only ids: what is left out has just been tried in vain.
DUE = f"""create function due_children(most integer, without uuid[])
returns table (organization_id uuid, run_id uuid, step_id uuid)
language sql stable security definer set search_path = public, pg_temp set enable_seqscan = off as $$
  (select s.organization_id, s.run_id, s.id from step s where {BEGUN} and s.id <> all (without) limit most)
  union
  (select r.organization_id, r.parent_run_id, r.parent_step_id from run r
   where {ENDED} and r.parent_step_id <> all (without) limit most) $$"""


def upgrade() -> None:
    _run([
        "alter table run add column parent_step_id uuid, add column parent_told boolean not null default false",
        "alter table step add column child_run_id uuid, add column child jsonb, add column child_used jsonb",
        "alter table step add column child_told boolean not null default false",
        f"create index run_parent_untold_idx on run (organization_id, id) where {ENDED}",
        f"create index step_child_due_idx on step (organization_id, run_id, id) where {BEGUN}",
        f"grant update (parent_told) on run to {DOORS}",
        f"grant update (child_run_id, child_used, child_told) on step to {DOORS}",
        DUE,
        *security_definer(SERVICE, "due_children(integer, uuid[])"),
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        "drop function due_children(integer, uuid[])",
        "drop index step_child_due_idx, run_parent_untold_idx",
        "alter table step drop column child_told, drop column child_used, drop column child, drop column child_run_id",
        "alter table run drop column parent_told, drop column parent_step_id",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
