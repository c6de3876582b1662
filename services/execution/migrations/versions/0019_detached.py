"""Calls that run detached from their run: each with a lease of its own, found when their worker is gone."""

from alembic import op

from chassis.migration import security_definer

revision = "0019"
down_revision = "0018"

SERVICE, DOORS = "execution", "remit_execution"
DETACHED = "status = 'waiting' and lease_until is not null"
OUTCOME = "provider, model_name, price_version, input_tokens, output_tokens, cost_usd_micros, child, lease_until"
USED = "input_tokens, output_tokens, cost_usd_micros"
# Across organizations, and only ids. After the database was away, whoever is alive has ten seconds to say so.
LOST = f"""create function lost_steps(most integer)
returns table (organization_id uuid, run_id uuid, step_id uuid)
language sql stable security definer set search_path = public, pg_temp set enable_seqscan = off as $$
  select s.organization_id, s.run_id, s.id from step s where {DETACHED} and s.lease_until < now()
    and pg_postmaster_start_time() < now() - interval '10 s' limit most $$"""
# As before, but that time in which a call of the run was under way is no waiting.
WAKE = """create or replace function wake_runs(most integer, out woken bigint, out next_seconds float8)
language sql volatile security definer set search_path = public, pg_temp set enable_seqscan = off as $$
  with due as (
    select retention_class, id from run where status = 'waiting' and wake_at <= now() order by wake_at limit most
    for update skip locked
  ), woken as (
    update run r set status = 'queued', waiting_for = null, wake_at = null, dispatched_at = null,
      waited = r.waited + {WAITED}, waiting_since = null, updated_at = now(), version = r.version + 1
    from due where r.retention_class = due.retention_class and r.id = due.id and r.status = 'waiting' returning r.id
  )
  select (select count(*) from woken), extract(epoch from (
    select min(wake_at) from run where status = 'waiting' and wake_at > now()) - now())::float8 $$"""
ALL = "(now() - coalesce(r.waiting_since, now()))"
BUT_FOR_STEPS = f"case r.waiting_for when 'step' then interval '0' else {ALL} end"


def upgrade() -> None:
    _run([
        "alter table step add column lease_until timestamptz",
        f"create index step_lease_idx on step (lease_until) where {DETACHED}",
        f"grant update ({OUTCOME}) on step to {DOORS}",
        f"grant update ({USED}) on run to {DOORS}",
        LOST,
        *security_definer(SERVICE, "lost_steps(integer)", ("sweep",)),
        WAKE.replace("{WAITED}", BUT_FOR_STEPS),
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        WAKE.replace("{WAITED}", ALL),
        "drop function lost_steps(integer)",
        f"revoke update ({USED}) on run from {DOORS}",
        "drop index step_lease_idx",
        "alter table step drop column lease_until",
        f"revoke update ({OUTCOME.removesuffix(', lease_until')}) on step from {DOORS}",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
