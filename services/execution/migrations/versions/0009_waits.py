"""Waits for people, clocks and signals: when a run looks again by itself, and how many answers came for its steps."""

from alembic import op

from chassis.migration import security_definer

revision = "0009"
down_revision = "0008"

SERVICE, DOORS, SWEEP = "execution", "remit_execution", "remit_execution_sweep"
KINDS = ["agent", "tool", "parallel", "map", "branch", "loop", "wait", "subrun"]
WAITS = ["approval", "timer", "signal"]
"""A waiting step says what it waits for."""
GATE_WRITES = "error_code, error_message, decision_id, decision, limits, queued_at"
"""A run that had to be approved before its start is decided again, and may fail without a worker."""
# It crosses organizations and sets statuses, which the sweeper itself may not: only so, and only to `queued`. Whoever
# holds a row is about to change its status: it is not waited for, and the next look sees what became of it.
WAKE = """create function wake_runs(most integer, out woken bigint, out next_seconds float8)
language sql volatile security definer set search_path = public, pg_temp set enable_seqscan = off as $$
  with due as (
    select retention_class, id from run where status = 'waiting' and wake_at <= now() order by wake_at limit most
    for update skip locked
  ), woken as (
    update run r set status = 'queued', waiting_for = null, wake_at = null, dispatched_at = null,
      waited = r.waited + (now() - coalesce(r.waiting_since, now())), waiting_since = null, updated_at = now(),
      version = r.version + 1
    from due where r.retention_class = due.retention_class and r.id = due.id and r.status = 'waiting' returning r.id
  )
  select (select count(*) from woken), extract(epoch from (
    select min(wake_at) from run where status = 'waiting' and wake_at > now()) - now())::float8 $$"""


def upgrade() -> None:
    _run([
        "alter table run add column wake_at timestamptz, add column answers integer not null default 0",
        "create index run_wake_at_idx on run (wake_at) where status = 'waiting' and wake_at is not null",
        "alter table step drop constraint step_kind_check",
        f"alter table step add constraint step_kind_check check (kind in ({_listed(KINDS + WAITS)}))",
        f"grant update (wake_at, answers, {GATE_WRITES}) on run to {DOORS}",
        f"grant select (answers) on run to {SWEEP}",
        WAKE,
        *security_definer(SERVICE, "wake_runs(integer)", ("sweep",)),
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        "drop function wake_runs(integer)",
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
