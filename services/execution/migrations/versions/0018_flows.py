"""How runs of a definition are let in: how many at the same time, how many in a time."""

from alembic import op

from chassis.migration import isolate, role, security_definer

revision = "0018"
down_revision = "0017"

SERVICE, SWEEP = "execution", role("execution", "sweep")
OPEN = "status in ('scheduled', 'queued', 'running', 'waiting', 'cancelling')"
ENDED = "status in ('completed', 'failed', 'cancelled', 'timed_out')"
DEFINER = "security definer set search_path = public, pg_temp"
COLUMNS = """alter table run add column flow_group uuid, add column pace_group uuid,
  add column flow_since timestamptz, add column hold text,
  add constraint run_hold_check check (hold in ('concurrency', 'rate'))"""
# What is put aside leaves the backlog's part of the index: it is not walked over in each round.
INDEXES = (
    "drop index run_open_idx",
    f"""create index run_open_idx on run (organization_id, workspace_id, status, hold, priority desc, id)
  where {OPEN}""",
    f"create index run_place_idx on run (organization_id, flow_group) where flow_since is not null and {OPEN}",
    """create index run_held_place_idx on run (organization_id, flow_group, priority desc, id)
  where hold = 'concurrency' and status = 'queued'""",
    """create index run_held_pace_idx on run (organization_id, pace_group, priority desc, id)
  where hold = 'rate' and status = 'queued'""",
)
CHANGE = """create table flow_change (
  organization_id uuid not null, pos bigint generated always as identity, flow_group uuid not null,
  primary key (organization_id, pos)
)"""
PACE = """create table flow_pace (
  organization_id uuid not null, pace_group uuid not null, arrival_micros bigint not null,
  spacing_micros bigint not null, burst integer not null, wakes_at timestamptz,
  primary key (organization_id, pace_group)
)"""
WAKES = "create index flow_pace_wakes_at_idx on flow_pace (wakes_at) where wakes_at is not null"
# Whoever ends a run, in whatever statement, says so in the same transaction. Runs without a flow stop at `when`.
CHANGED = f"""create function flow_note_change() returns trigger language plpgsql {DEFINER} as $$
begin
  insert into flow_change (organization_id, flow_group)
  select new.organization_id, moved from unnest(array[new.flow_group, new.pace_group]) as moved where moved is not null;
  return null;
end $$"""
TRIGGER = f"""create trigger run_flow_change after update of status on run for each row
when ((new.flow_group is not null or new.pace_group is not null) and new.hold is null and new.{ENDED}
  and not old.{ENDED}) execute function flow_note_change()"""
# The sweeper sees no definitions, only these numbers of them: those of the version that is current, so that a limit
# holds for all that waits as soon as somebody has changed it.
LIMITS = f"""create function flow_limits(organization uuid, kind text, definition uuid,
  out places integer, out starts integer, out seconds integer, out burst integer)
language sql stable {DEFINER} as $$
  select (v.flow #>> '{{concurrency,limit}}')::integer, (v.flow #>> '{{rate,limit}}')::integer,
    (v.flow #>> '{{rate,seconds}}')::integer, coalesce((v.flow #>> '{{rate,burst}}')::integer, 1)
  from (
    select v.config -> 'flow' as flow from agent a join agent_version v on v.id = a.current_version_id
    where kind = 'agent' and a.id = definition and a.organization_id = organization
    union all
    select v.config -> 'flow' from orchestration o join orchestration_version v on v.id = o.current_version_id
    where kind = 'orchestration' and o.id = definition and o.organization_id = organization
  ) v $$"""
RUN_READS = "flow_group, pace_group, flow_since, hold, execution_type, orchestration_id"
PACES = ["organization_id", "pace_group", "arrival_micros", "spacing_micros", "burst", "wakes_at"]
RULES = f"organization_rules_{SWEEP}"


def upgrade() -> None:
    _run([COLUMNS, *INDEXES, CHANGE, PACE, WAKES, CHANGED, TRIGGER, LIMITS])
    _run(
        isolate(
            SERVICE,
            "flow_change",
            batch=False,
            privileges="select",
            sweep_columns=["organization_id", "pos", "flow_group"],
        )
    )
    _run(isolate(SERVICE, "flow_pace", batch=False, privileges="select", sweep_columns=PACES, sweep_updates=PACES[2:]))
    _run(security_definer(SERVICE, "flow_limits(uuid, text, uuid)", ("sweep",)))
    _run([
        "revoke all on function flow_note_change() from public",
        f"grant delete on flow_change, flow_pace to {SWEEP}",
        f"grant insert on flow_change, flow_pace to {SWEEP}",
        f"grant select ({RUN_READS}), update (hold, flow_since) on run to {SWEEP}",
        f"create policy {RULES} on organization_rules to {SWEEP} using (true)",
        f"grant select (organization_id, status) on organization_rules to {SWEEP}",
    ])  # fmt: skip


def downgrade() -> None:
    _run([
        f"revoke select (organization_id, status) on organization_rules from {SWEEP}",
        f"drop policy {RULES} on organization_rules",
        "drop trigger run_flow_change on run", "drop function flow_note_change(), flow_limits(uuid, text, uuid)",
        "drop table flow_pace, flow_change",
        "drop index run_held_pace_idx, run_held_place_idx, run_place_idx, run_open_idx",
        "alter table run drop column hold, drop column flow_since, drop column pace_group, drop column flow_group",
        f"""create index run_open_idx on run (organization_id, workspace_id, status, priority desc, id)
  where {OPEN}""",
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
