"""Entries, heads, watermarks, producers, gaps."""

from alembic import op

from chassis.migration import chassis_tables, isolate, role, security_definer, share

revision = "0001"
down_revision = None

INGEST = "remit_audit_ingest"
RETENTION_CLASSES = (30, 90, 365, 2555)

_ENTRY = """create table entry (
  retention_class smallint not null, id uuid not null, organization_id uuid not null, workspace_id uuid,
  occurred_at timestamptz not null, event_type text not null, resource_type text not null, resource_id text not null,
  action text not null, actor_type text not null, actor_id text not null, owner_id text not null, result text not null,
  error_message text not null, run_id uuid, trace_id text not null,
  producer text not null, epoch integer not null, sequence bigint not null, organization_sequence bigint not null,
  leaf_index bigint not null, leaf_hash bytea not null, body bytea not null, logged_at timestamptz not null default now(),
  constraint entry_pkey primary key (retention_class, id)
) partition by list (retention_class)"""

# COPY is refused where row security is on, so it goes into the leaves: they carry none, and one grant, to insert.
# Readers hold a grant on the parent alone, and its row security binds them.
_MAKE_MONTHS = """create function entry_make_months(ahead integer) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare class smallint; month timestamp; leaf text; made integer := 0;
begin
  foreach class in array array[30, 90, 365, 2555]::smallint[] loop
    for step in -1..ahead loop
      month := date_trunc('month', now() at time zone 'utc') + make_interval(months => step);
      leaf := 'entry_' || class || '_' || to_char(month, 'YYYYMM');
      continue when to_regclass(leaf) is not null;
      execute format('create table %I partition of entry_' || class || ' for values from (%L) to (%L)',
        leaf, uuid_at(month), uuid_at(month + interval '1 month'));
      execute format('grant insert on %I to remit_audit_ingest', leaf);
      execute format('create trigger append_only_leaf before truncate on %I execute function refuse_change()', leaf);
      made := made + 1;
    end loop;
  end loop;
  return made;
end $$"""

# Nobody holds the right to change an entry; this holds even for who owns the tables, until it drops the trigger.
_REFUSE = """create function refuse_change() returns trigger language plpgsql as $$
begin raise exception 'entries are never changed' using errcode = 'insufficient_privilege'; end $$"""
_APPEND_ONLY = (
    "create trigger append_only before update or delete on entry for each row execute function refuse_change()",
    "create trigger append_only_whole before truncate on entry execute function refuse_change()",
)

_UUID_AT = """create function uuid_at(moment timestamp) returns uuid language sql immutable as $$
  select (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$"""

_OTHERS = (
    """create table tree_head (
  organization_id uuid constraint tree_head_pkey primary key, size bigint not null
) with (fillfactor = 70)""",
    """create table organization_watermark (
  organization_id uuid not null, producer text not null, epoch integer not null, sequence bigint not null,
  contiguous bigint not null, missing bigint not null,
  constraint organization_watermark_pkey primary key (organization_id, producer)
) with (fillfactor = 70)""",
    """create table producer (
  name text constraint producer_pkey primary key, attested_epoch integer not null, attested_sequence bigint not null,
  attested_at timestamptz not null
) with (fillfactor = 50)""",
    """create table gap (
  producer text not null, first bigint not null, last bigint not null, detected_at timestamptz not null default now(),
  healed_at timestamptz, announced_at timestamptz, healing_announced_at timestamptz, constraint gap_pkey primary key (producer, first)
)""",
    """create table platform_organization (
  "only" boolean constraint platform_organization_pkey primary key check ("only"), id uuid not null
)""",
)

_QUARANTINE = """create function quarantined() returns table (stream text, facts bigint)
language sql stable security definer set search_path = public, pg_temp
as $$ select stream, count(*) from parked_fact where resolved_at is null group by stream $$"""


def upgrade() -> None:
    """Make everything."""
    statements = [
        *chassis_tables("audit", sinks=[INGEST]),
        _ENTRY, _REFUSE, *_APPEND_ONLY,
        *(f"create table entry_{each} partition of entry for values in ({each}) partition by range (id)"
          for each in RETENTION_CLASSES),
        "create index entry_organization_time_idx on entry (organization_id, occurred_at, id, event_type)",
        "create index entry_run_idx on entry (organization_id, run_id, occurred_at, id) where run_id is not null",
        "create index entry_resource_idx on entry (organization_id, resource_id, occurred_at, id)",
        _UUID_AT, _MAKE_MONTHS, *_OTHERS, _QUARANTINE,
        "select entry_make_months(2)",
    ]  # fmt: skip
    statements += isolate("audit", "entry", batch=False, privileges="select")
    for table in ("tree_head", "organization_watermark"):
        statements += isolate("audit", table, batch=False, privileges="select")
        statements.append(f"create policy {table}_ingest on {table} to {INGEST} using (true)")
        statements.append(f"grant select, insert, update on {table} to {INGEST}")
    for table in ("producer", "gap"):
        statements += share("audit", table, suffixes=("",))
        statements.append(f"grant select, insert, update on {table} to {INGEST}")
    statements += [
        f"grant update (announced_at, healing_announced_at) on gap to {role('audit')}",
        *share("audit", "platform_organization", "select, insert, update", suffixes=("",)),
        *security_definer("audit", "entry_make_months(integer)"),
        *security_definer("audit", "quarantined()"),
    ]
    for statement in statements:
        op.execute(statement)
