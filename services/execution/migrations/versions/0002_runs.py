"""Runs and steps: partitioned by how long they are kept, then by month; and what makes a request safe to repeat."""

from alembic import op

from chassis.migration import isolate, security_definer

revision = "0002"
down_revision = "0001"

SERVICE = "execution"
DOORS, BATCH = "remit_execution", "remit_execution_batch"
DEFINER = "language plpgsql security definer set search_path = public, pg_temp"
CLASSES = (30, 90, 365, 2555)

RUN = """create table run (
  retention_class smallint not null, id uuid not null, organization_id uuid not null, workspace_id uuid not null,
  gateway_id uuid, execution_type text not null, agent_id uuid, orchestration_id uuid, version_id uuid not null,
  semver text not null, config_digest text not null, pins jsonb not null default '{}',
  limits jsonb not null default '{}', caller jsonb not null, created_by text not null, triggered_by text not null,
  trigger_type text not null, decision_id uuid not null, decision jsonb not null,
  status text not null default 'queued', waiting_for text, priority smallint not null default 0,
  input bytea, input_ref text, output bytea, output_ref text,
  error_code text, error_message text, stop_reason text,
  queued_at timestamptz not null, started_at timestamptz, completed_at timestamptz, deadline_at timestamptz,
  step_count integer not null default 0, input_tokens bigint not null default 0,
  output_tokens bigint not null default 0, cost_usd_micros bigint not null default 0,
  traceparent text not null default '', correlation_id text not null default '',
  parent_run_id uuid, root_run_id uuid not null, forked_from uuid, depth smallint not null default 0,
  token bigint not null default 0, last_step integer not null default 0, worker_id text, lease_until timestamptz,
  dispatched_at timestamptz, takeovers integer not null default 0,
  cancel_requested_at timestamptz, cancel_reason text,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  version integer not null default 1,
  primary key (id, retention_class),
  constraint run_execution_type_check check (execution_type in ('agent', 'orchestration')),
  constraint run_subject_check check ((execution_type = 'agent') = (agent_id is not null)
    and (execution_type = 'orchestration') = (orchestration_id is not null)),
  constraint run_trigger_type_check check (trigger_type in ('api', 'cli', 'mcp', 'scheduled', 'child', 'fork')),
  constraint run_status_check check (status in ('scheduled', 'queued', 'running', 'waiting', 'cancelling', 'completed',
    'failed', 'cancelled', 'timed_out')),
  constraint run_waiting_for_check check (waiting_for in ('approval', 'timer', 'signal', 'child', 'step', 'decision')),
  constraint run_input_check check (octet_length(input) <= 65536),
  constraint run_output_check check (octet_length(output) <= 65536),
  constraint run_error_message_check check (length(error_message) <= 2000),
  constraint run_cancel_reason_check check (length(cancel_reason) <= 500)
) partition by list (retention_class)"""

STEP = """create table step (
  retention_class smallint not null, run_id uuid not null, node text not null, iteration integer not null,
  attempt smallint not null, id uuid not null, organization_id uuid not null, step_number integer not null,
  kind text not null, effects text not null default 'read', agent_id uuid, agent_version_id uuid,
  agent_semver text not null default '', status text not null,
  input bytea, input_ref text, output bytea, output_ref text, error_code text, error_message text,
  will_retry boolean not null default false,
  provider text not null default '', model_name text not null default '', price_version text not null default '',
  input_tokens bigint not null default 0, output_tokens bigint not null default 0,
  cost_usd_micros bigint not null default 0, started_at timestamptz not null, completed_at timestamptz,
  token bigint not null, created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  version integer not null default 1,
  primary key (organization_id, retention_class, run_id, node, iteration, attempt),
  constraint step_kind_check check (kind in ('agent', 'tool', 'parallel', 'map', 'branch', 'loop', 'wait', 'subrun')),
  constraint step_effects_check check (effects in ('read', 'idempotent', 'write')),
  constraint step_status_check check (status in ('started', 'waiting', 'needs_decision', 'completed', 'failed',
    'skipped')),
  constraint step_input_check check (octet_length(input) <= 65536),
  constraint step_output_check check (octet_length(output) <= 65536),
  constraint step_error_message_check check (length(error_message) <= 2000)
) partition by list (retention_class)"""

IDEMPOTENCY_KEY = """create table idempotency_key (
  organization_id uuid not null, caller_id text not null, key text not null, request_sha256 bytea not null,
  run_id uuid not null, created_at timestamptz not null default now(), expires_at timestamptz not null,
  primary key (organization_id, caller_id, key),
  constraint idempotency_key_key_check check (length(key) between 1 and 255)
)"""

RUN_MONTH = """create table run_month (
  organization_id uuid not null, month date not null, runs bigint not null, primary key (organization_id, month)
) with (fillfactor = 50)"""

INDEXES = (
    "create index run_organization_id_created_at_id_idx on run (organization_id, created_at desc, id desc)",
    # The backlog and what runs: admission, the reaper and the exact count per workspace. Only status is in it of all
    # that changes during a run, so the update at each step touches no index.
    """create index run_open_idx on run (organization_id, workspace_id, status, priority desc, id)
  where status in ('scheduled', 'queued', 'running', 'waiting', 'cancelling')""",
    """create index run_organization_id_parent_run_id_idx on run (organization_id, parent_run_id)
  where parent_run_id is not null""",
    "create index idempotency_key_organization_id_expires_at_idx on idempotency_key (organization_id, expires_at)",
)

# The bounds of a month as UUIDv7: 48 bits of milliseconds, then nothing but zeros.
FUNCTIONS = (
    """create function first_id_at(moment timestamptz) returns uuid language sql immutable strict as $$
  select rpad(lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid $$""",
    f"""create function run_make_months(ahead integer) returns integer {DEFINER} as $$
declare month timestamp; class smallint; parent text; leaf text; made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('remit.run_months', 0));
  for step_back in -1..ahead loop
    month := date_trunc('month', now() at time zone 'utc') + make_interval(months => step_back);
    foreach parent in array array['run', 'step'] loop
      foreach class in array array[{", ".join(map(str, CLASSES))}]::smallint[] loop
        leaf := format('%s_%s_%s', parent, class, to_char(month, 'YYYYMM'));
        continue when to_regclass(leaf) is not null;
        execute format('create table %I partition of %I for values from (%L) to (%L) with (fillfactor = %s)',
          leaf, format('%s_%s', parent, class), first_id_at(month at time zone 'utc'),
          first_id_at((month + interval '1 month') at time zone 'utc'), case parent when 'run' then 70 else 100 end);
        execute format('alter table %I enable row level security', leaf);
        execute format('alter table %I force row level security', leaf);
        made := made + 1;
      end loop;
    end loop;
  end loop;
  return made;
end $$""",
    f"""create function run_drop_months() returns integer {DEFINER} set lock_timeout = '200ms' as $$
declare leaf text; class integer; unfinished boolean; dropped integer := 0;
begin
  for leaf, class in
    select c.relname, split_part(c.relname, '_', 2)::integer from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (select inhrelid from pg_inherits where inhparent = 'run'::regclass) order by c.relname
  loop
    continue when to_date(right(leaf, 6), 'YYYYMM') + interval '1 month' + make_interval(days => class)
      > now() at time zone 'utc';
    execute format('select exists (select from run where retention_class = %s and id >= first_id_at(%L) and
      id < first_id_at(%L) and status in (''scheduled'', ''queued'', ''running'', ''waiting'', ''cancelling''))', class,
      to_date(right(leaf, 6), 'YYYYMM')::timestamp at time zone 'utc',
      (to_date(right(leaf, 6), 'YYYYMM') + interval '1 month') at time zone 'utc') into unfinished;
    continue when unfinished;
    execute format('drop table %I', leaf);
    execute format('drop table if exists %I', 'step' || substr(leaf, 4));
    dropped := dropped + 1;
  end loop;
  return dropped;
exception when lock_not_available then return 0;
end $$""",
    f"""create function idempotency_key_purge() returns integer {DEFINER} as $$
declare purged integer;
begin
  delete from idempotency_key where expires_at < now();
  get diagnostics purged = row_count;
  return purged;
end $$""",
)

SWEEP_READS = (
    "retention_class", "id", "organization_id", "workspace_id", "status", "priority", "queued_at", "deadline_at",
    "dispatched_at", "lease_until", "worker_id", "token", "last_step", "takeovers", "cancel_requested_at",
)  # fmt: skip
SWEEP_WRITES = ("dispatched_at", "lease_until", "takeovers")
DOOR_WRITES = "status, waiting_for, stop_reason, completed_at, cancel_requested_at, cancel_reason, updated_at, version"


def upgrade() -> None:
    classes = [
        f"create table {table}_{days} partition of {table} for values in ({days}) partition by range ({key})"
        for table, key in (("run", "id"), ("step", "run_id"))
        for days in CLASSES
    ]
    _run([RUN, STEP, *classes, IDEMPOTENCY_KEY, RUN_MONTH, *INDEXES, *FUNCTIONS, "select run_make_months(2)"])
    for table in ("run", "step"):
        _run(
            [f"alter table {table}_{days} {how} row level security" for days in CLASSES for how in ("enable", "force")]
        )
    _run(isolate(SERVICE, "run", privileges="select, insert", sweep_columns=SWEEP_READS, sweep_updates=SWEEP_WRITES))
    _run([f"grant update ({DOOR_WRITES}) on run to {DOORS}", f"grant update on run to {BATCH}"])
    _run(isolate(SERVICE, "step", privileges="select"))
    _run([f"grant insert, update on step to {BATCH}"])
    _run(isolate(SERVICE, "idempotency_key", batch=False))
    _run(isolate(SERVICE, "run_month", privileges="select, insert, update"))
    for function in ("run_make_months(integer)", "run_drop_months()", "idempotency_key_purge()"):
        _run(security_definer(SERVICE, function, ("", "sweep")))


def downgrade() -> None:
    _run([
        "drop table run_month, idempotency_key, step, run",
        "drop function idempotency_key_purge(), run_drop_months(), run_make_months(integer), first_id_at(timestamptz)",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
