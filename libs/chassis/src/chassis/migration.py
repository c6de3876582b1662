"""SQL for migrations: roles, the chassis' own tables, row security of tenant tables. Pure text, nothing connects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_ORGANIZATION = "nullif(current_setting('app.organization_id', true), '')::uuid"
_ORGANIZATIONS = "nullif(current_setting('app.organization_ids', true), '')::uuid[]"

_OUTBOX = """create table outbox (
  pos bigint generated always as identity (cache 1) primary key,
  id uuid not null, type text not null, organization_id uuid not null, traceparent text not null default '',
  body bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0)"""

_FACT_LOG = """create table fact_log (
  sequence bigint not null, epoch integer not null, organization_sequence bigint not null,
  id uuid not null, type text not null, organization_id uuid not null, traceparent text not null, body bytea not null,
  logged_at timestamptz not null default now(), primary key (sequence, logged_at)
) partition by range (logged_at)"""

_HEADS = (
    """create table fact_head (
  stream text primary key, epoch integer not null, sequence bigint not null, confirmed bigint not null
) with (fillfactor = 50)""",
    """create table organization_head (
  organization_id uuid primary key, epoch integer not null, sequence bigint not null
) with (fillfactor = 70)""",
    """create table fact_epoch (
  epoch integer primary key, first_sequence bigint not null, last_before bigint not null,
  started_at timestamptz not null default now()
)""",
)

_CONSUMER = (
    """create table fact_offset (
  stream text primary key, sequence bigint not null, stream_offset bigint not null, epoch integer not null
) with (fillfactor = 50)""",
    """create table parked_fact (
  stream text not null, sequence bigint not null, organization_id uuid not null, id uuid not null, type text not null,
  message bytea not null, error text not null, parked_at timestamptz not null default now(), resolved_at timestamptz,
  primary key (stream, sequence)
)""",
    "create index parked_fact_waiting_idx on parked_fact (organization_id, stream, sequence) where resolved_at is null",
    """create table inbox (
  id uuid primary key, organization_id uuid not null, type text not null, reply bytea not null default '',
  done_at timestamptz not null default now()
)""",
    "create index inbox_done_idx on inbox (done_at)",
    """create table organization_rules (
  organization_id uuid primary key, status text not null default 'unknown', status_version integer not null default 0,
  bundle_version integer not null default 0, bundle_source bytea not null default ''
)""",
)

# DETACH CONCURRENTLY can't run in a function. The plain one locks the whole log, but only its one writer (the relay,
# who is the caller) and answers to repairs use it, the wait for the lock is bounded, and it can't be left half done.
_UPKEEP = (
    """create function fact_log_make_days(ahead integer) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare today date := (now() at time zone 'utc')::date; partition text; made integer := 0;
begin
  for day in 0..ahead loop
    partition := 'fact_log_' || to_char(today + day, 'YYYYMMDD');
    continue when to_regclass(partition) is not null;
    execute format('create table %I (like fact_log including defaults including constraints)', partition);
    execute format('alter table fact_log attach partition %I for values from (%L) to (%L)',
      partition, (today + day)::timestamp at time zone 'utc', (today + day + 1)::timestamp at time zone 'utc');
    made := made + 1;
  end loop;
  return made;
end $$""",
    """create function fact_log_drop_days(keep_days integer) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare day_table regclass; newest bigint; dropped integer := 0;
  oldest text := 'fact_log_' || to_char((now() at time zone 'utc')::date - keep_days, 'YYYYMMDD');
begin
  for day_table in select inhrelid::regclass from pg_inherits join pg_class on oid = inhrelid
      where inhparent = 'fact_log'::regclass and relname < oldest order by relname loop
    execute format('select max(sequence) from %s', day_table) into newest;
    exit when newest > (select confirmed from fact_head);
    execute format('alter table fact_log detach partition %s', day_table);
    execute format('drop table %s', day_table);
    dropped := dropped + 1;
  end loop;
  return dropped;
exception when lock_not_available then return 0;
end $$""",
    """create function inbox_purge(keep_days integer) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin delete from inbox where done_at < now() - make_interval(days => keep_days); end $$""",
    """create function parked_organizations() returns table (organization_id uuid, facts bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
begin return query
  select p.organization_id, count(*) from parked_fact p where p.resolved_at is null group by 1 order by 1;
end $$""",
)


def role(service: str, suffix: str = "") -> str:
    """The name of a role: `remit_<service>` (doors), or with a suffix (owner, batch, relay, sweep)."""
    return f"remit_{service}_{suffix}" if suffix else f"remit_{service}"


def roles(service: str) -> tuple[str, ...]:
    """Every role of a service that needs a password."""
    return tuple(role(service, suffix) for suffix in ("owner", "", "batch", "relay", "sweep"))


def create_roles(service: str, passwords: Mapping[str, str]) -> list[str]:
    """Statements for the superuser: make or correct the roles named in `passwords`. May be repeated."""
    statements: list[str] = []
    for name, password in passwords.items():
        if not name.startswith(role(service)):
            msg = f"{name} is no role of {service}"
            raise ValueError(msg)
        statements.append(f"do $$ begin create role {name}; exception when duplicate_object then null; end $$")
        statements.append(
            f"alter role {name} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls "
            f"password {_quoted(password)}"
        )
    return statements


def create_database(service: str) -> list[str]:
    """The superuser's statement, outside any transaction. There is no IF NOT EXISTS: look in pg_database first."""
    return [f"create database {role(service)} owner {role(service, 'owner')} template template0 encoding 'UTF8'"]


def database_grants(service: str, extra_roles: Iterable[str] = (), database: str | None = None) -> list[str]:
    """Statements for the superuser, inside the new database: only this service's roles may enter. May be repeated."""
    names = ", ".join((*roles(service), *extra_roles))
    database = database or role(service)
    return [
        f"revoke all on database {database} from public",
        f"grant connect on database {database} to {names}",
        "revoke create on schema public from public",
        f"grant usage on schema public to {names}",
    ]


def chassis_tables(service: str, *, sinks: Sequence[str] = ()) -> list[str]:
    """Statements for a service's first migration: outbox, log, heads, offsets, parked facts, inbox; run by the owner.

    `sinks` are roles that store facts besides the service itself (audit's ingest): they write offsets and parked facts.
    """
    return [
        _OUTBOX, _FACT_LOG, *_HEADS, *_CONSUMER, *_UPKEEP,
        "select fact_log_make_days(3)",
        *_producer_rights(service), *_consumer_rights(service, sinks), *_function_rights(service),
    ]  # fmt: skip


def drop_chassis_tables() -> list[str]:
    """The way back."""
    own = ("outbox", "fact_log", "fact_head", "organization_head", "fact_epoch")
    followed = ("fact_offset", "parked_fact", "inbox", "organization_rules")
    functions = "fact_log_make_days(integer), fact_log_drop_days(integer), inbox_purge(integer), parked_organizations()"
    return [f"drop table {', '.join(own + followed)} cascade", f"drop function {functions}"]


def isolate(
    service: str,
    table: str,
    column: str = "organization_id",
    *,
    batch: bool = True,
    sweep_columns: Sequence[str] | None = None,
    sweep_updates: Sequence[str] = (),
    privileges: str = "select, insert, update, delete",
) -> list[str]:
    """Forced row security of a tenant table: each role sees the organization (or batch of them) it has set, no other.

    `sweep_columns` are those the sweeper reads in all organizations, `sweep_updates` those it writes.
    """
    statements = [
        *_forced(table, service),
        _policy(table, role(service), f"{column} = {_ORGANIZATION}"),
        f"grant {privileges} on {table} to {role(service)}",
    ]
    if batch:
        statements.append(_policy(table, role(service, "batch"), f"{column} = any ({_ORGANIZATIONS})"))
        statements.append(f"grant {privileges} on {table} to {role(service, 'batch')}")
    if sweep_columns is not None:
        sweep = role(service, "sweep")
        statements.append(_policy(table, sweep, "true"))
        statements.append(f"grant select ({', '.join(sweep_columns)}) on {table} to {sweep}")
        if sweep_updates:
            statements.append(f"grant update ({', '.join(sweep_updates)}) on {table} to {sweep}")
    return statements


def share(
    service: str, table: str, privileges: str = "select", suffixes: Sequence[str] = ("", "batch", "sweep")
) -> list[str]:
    """Grants on a table that belongs to no organization."""
    return [f"grant {privileges} on {table} to {', '.join(role(service, suffix) for suffix in suffixes)}"]


def security_definer(service: str, function: str, suffixes: Sequence[str] = ("",)) -> list[str]:
    """Rights of a look-up that runs as the owner (`name(argument types)`): these roles may call it, the public not."""
    names = ", ".join(role(service, suffix) for suffix in suffixes)
    return [f"revoke all on function {function} from public", f"grant execute on function {function} to {names}"]


def _producer_rights(service: str) -> list[str]:
    relay = role(service, "relay")
    writers = ((role(service), f"= {_ORGANIZATION}"), (role(service, "batch"), f"= any ({_ORGANIZATIONS})"))
    return [
        *(line for table in ("outbox", "fact_log", "organization_head") for line in _forced(table, service)),
        *(_policy(table, relay, "true") for table in ("outbox", "fact_log", "organization_head")),
        *(
            f"create policy {name}_insert on outbox for insert to {name} with check (organization_id {check})"
            for name, check in writers
        ),
        f"grant insert (id, type, organization_id, traceparent, body) on outbox to {writers[0][0]}, {writers[1][0]}",
        f"grant select, delete on outbox to {relay}",
        f"grant select, insert on fact_log, fact_epoch to {relay}",
        f"grant select, insert, update on fact_head, organization_head to {relay}",
    ]


def _consumer_rights(service: str, sinks: Sequence[str]) -> list[str]:
    doors, batch = role(service), role(service, "batch")
    return [
        f"grant select, insert, update on fact_offset to {', '.join((doors, batch, *sinks))}",
        *isolate(service, "parked_fact", privileges="select, insert, update"),
        *isolate(service, "inbox", batch=False, privileges="select, insert, update"),
        *isolate(service, "organization_rules", privileges="select, insert, update"),
        *(f"create policy {sink}_insert on parked_fact for insert to {sink} with check (true)" for sink in sinks),
        *(f"grant insert on parked_fact to {sink}" for sink in sinks),
    ]


def _function_rights(service: str) -> list[str]:
    return [
        *security_definer(service, "fact_log_make_days(integer)", ("relay",)),
        *security_definer(service, "fact_log_drop_days(integer)", ("relay",)),
        *security_definer(service, "inbox_purge(integer)"),
        *security_definer(service, "parked_organizations()"),
    ]


def _forced(table: str, service: str) -> list[str]:
    owner = role(service, "owner")
    return [
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        # The owner is bound too: its functions and backfills need a policy of their own.
        _policy(table, owner, "true"),
    ]


def _policy(table: str, name: str, condition: str) -> str:
    return f"create policy {table}_{name} on {table} to {name} using ({condition})"


def _quoted(text: str) -> str:
    if "\\" in text or "\0" in text:
        msg = "a password may not contain a backslash or NUL"
        raise ValueError(msg)
    return "'" + text.replace("'", "''") + "'"
