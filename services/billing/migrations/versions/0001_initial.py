"""Subscriptions, the usage ledger and its sums."""

from alembic import op

from chassis.migration import chassis_tables, isolate, security_definer

revision = "0001"
down_revision = None

_SUBSCRIPTION = """create table subscription (
  id uuid constraint subscription_pkey primary key, organization_id uuid not null,
  plan_id text not null check (plan_id in ('free', 'pro', 'enterprise')),
  status text not null check (status in ('active', 'cancelled', 'past_due')),
  billing_cycle text not null check (billing_cycle in ('monthly', 'annual')),
  current_period_start timestamptz not null, current_period_end timestamptz not null,
  stripe_subscription_id text check (length(stripe_subscription_id) <= 255),
  max_users integer not null, max_agents integer not null, max_executions_per_month integer not null,
  max_storage_gb integer not null, max_gateways integer not null,
  created_at timestamptz not null, updated_at timestamptz not null, version integer not null,
  constraint subscription_organization_id_key unique (organization_id)
)"""

_USAGE_EVENT = """create table usage_event (
  id uuid constraint usage_event_pkey primary key, organization_id uuid not null, workspace_id uuid not null,
  run_id uuid not null, owner_id text not null, node text not null, attempt integer not null, agent_id uuid, agent_semver text not null,
  provider text not null, model_name text not null, succeeded boolean not null,
  input_tokens bigint not null, output_tokens bigint not null, cost_usd_micros bigint not null,
  price_version text not null, occurred_at timestamptz not null, booked_at timestamptz not null
)"""

_USAGE_DAY = """create table usage_day (
  organization_id uuid not null, day date not null, agent_id uuid not null, provider text not null, model_name text not null,
  owner_id text not null, steps bigint not null, input_tokens bigint not null, output_tokens bigint not null, cost_usd_micros bigint not null,
  constraint usage_day_pkey primary key (organization_id, day, agent_id, provider, model_name, owner_id)
) with (fillfactor = 70)"""

_USAGE_RECORD = """create table usage_record (
  organization_id uuid not null, period_start timestamptz not null, period_end timestamptz not null, id uuid not null,
  users_count integer not null, agents_count integer not null, executions_count bigint not null,
  storage_bytes bigint not null, gateways_count integer not null, cost_usd_micros bigint not null,
  created_at timestamptz not null, updated_at timestamptz not null, version integer not null,
  constraint usage_record_pkey primary key (organization_id, period_start)
) with (fillfactor = 70)"""

_COUNTED_THING = """create table counted_thing (
  organization_id uuid not null, noun text not null, id uuid not null, alive boolean not null, version integer not null,
  constraint counted_thing_pkey primary key (organization_id, noun, id)
)"""

_COUNTED_RUN = """create table counted_run (
  organization_id uuid not null, id uuid not null, constraint counted_run_pkey primary key (organization_id, id)
)"""

# Restatement publishes every organization's row again: one statement that must see them all, and returns ids only.
_ALL = """create function organizations_with_subscription() returns setof uuid
language sql stable security definer set search_path = public, pg_temp
as $$ select organization_id from subscription order by organization_id $$"""

# Periods end in every organization at once; the function returns ids only, a thousand at a time.
_ENDED = """create function organizations_with_ended_period(moment timestamptz) returns setof uuid
language sql stable security definer set search_path = public, pg_temp
as $$ select organization_id from subscription where current_period_end <= moment and status <> 'cancelled'
order by current_period_end limit 1000 $$"""


def upgrade() -> None:
    """Make everything."""
    statements = [
        *chassis_tables("billing"),
        _SUBSCRIPTION, _USAGE_EVENT, _USAGE_DAY, _USAGE_RECORD, _COUNTED_THING, _COUNTED_RUN, _ALL, _ENDED,
        "create index subscription_current_period_end_idx on subscription (current_period_end)",
        "create index usage_event_organization_id_run_id_id_idx on usage_event (organization_id, run_id, id)",
        "create index usage_event_organization_id_id_idx on usage_event (organization_id, id)",
    ]  # fmt: skip
    for table in ("subscription", "usage_day", "usage_record", "counted_thing"):
        statements += isolate("billing", table, privileges="select, insert, update")
    for table in ("usage_event", "counted_run"):
        statements += isolate("billing", table, privileges="select, insert")
    statements += security_definer("billing", "organizations_with_subscription()")
    statements += security_definer("billing", "organizations_with_ended_period(timestamptz)")
    for statement in statements:
        op.execute(statement)
