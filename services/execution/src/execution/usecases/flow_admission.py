"""Admission by group: at most so many runs of a definition at the same time, so many starts in a time, per key.

What holds a place is counted in the rows of runs themselves, under one lock for all who admit, so nothing can drift and
nothing is left behind by a process that dies. A run whose group is full is put aside (`run.hold`), so that nobody reads
it again until the group moves: whoever ends a run leaves a row in `flow_change`, and `flow_pace` says when its next
start is due. Statements are the sweeper's: they cross organizations, with named columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from execution.domain.flows import Groups, Pace, Rate
from execution.tables.kill_switches import KILLED
from execution.tables.runs import BEGUN, OPEN
from execution.usecases.engine_statements import FEW

CHANGES = 5_000
"""Ends of runs that are taken up in one go."""
FREED = 256
"""Runs of one group that are taken from their hold at once, at most."""
NET_GROUPS = 200
IDLE_SECONDS = 60
"""The pace of a group is forgotten so long after it has stopped to bind anybody."""
# One lock for all groups: nearly always one process admits, and whoever counts must not be counted past.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('remit.flow', 0))"
DUE = "exists (select from flow_change) or exists (select from flow_pace where wakes_at <= now())"
"""Whether a group has moved since it was looked at."""
_MOVED = f"""with changed as (
  delete from flow_change c using (select organization_id, pos from flow_change limit {CHANGES}) as first
  where c.organization_id = first.organization_id and c.pos = first.pos returning c.organization_id, c.flow_group
), due as (
  update flow_pace set wakes_at = null where wakes_at <= now() returning organization_id, pace_group
)
select * from changed union select * from due"""  # noqa: S608  (a number of our own)
_PLACES = f"""select count(*) as runs from run r where r.organization_id = g.organization_id
  and r.flow_group = g.flow_group and r.flow_since is not null and r.{OPEN}"""  # noqa: S608  (statuses of our own)
_NEXT = """select r.workspace_id, r.execution_type, coalesce(r.agent_id, r.orchestration_id) as definition_id
  from run r where r.organization_id = g.organization_id and r.{group} = g.flow_group and r.hold = '{hold}'
    and r.status = 'queued' order by r.priority desc, r.id limit 1"""
# All of a group are of one workspace. Where that drains, only what has begun is freed: whatever else is first in line
# stays, and would keep a child behind it from the place that its parent waits for. `case` hides the group from the
# planner, so that it looks in the index of what has begun, and not past all that has not.
_HELD = f"""select * from (select r.retention_class, r.id from run r where r.organization_id = g.organization_id
    and r.{{group}} = g.flow_group and r.hold = '{{hold}}' and r.status = 'queued'
    and coalesce(w.status, 'active') <> 'draining' order by r.priority desc, r.id
    limit {{most}} for update of r skip locked) as open
  union all
  select * from (select r.retention_class, r.id from run r where r.organization_id = g.organization_id
    and r.workspace_id = next.workspace_id and r.hold = '{{hold}}' and r.status = 'queued' and {BEGUN}
    and case when r.{{group}} = g.flow_group then coalesce(w.status, 'active') = 'draining' end
    order by r.priority desc, r.id limit {{most}} for update of r skip locked) as begun"""  # noqa: S608
_FREE = """update run r set hold = null from freed
where r.retention_class = freed.retention_class and r.id = freed.id and r.status = 'queued'"""
_GROUPS = "unnest($1::uuid[], $2::uuid[]) as g(organization_id, flow_group)"
_FREE_NOW = f"least({FREED}, greatest(0, coalesce(l.places, {FREED}) - busy.runs))"
_STARTS_NOW = f"""case when l.starts is null then {FREED} else
    least(coalesce(p.burst, 1), {FREED}, greatest(1, 1 + (
      (extract(epoch from clock_timestamp()) * 1000000)::bigint - p.arrival_micros + (p.burst - 1) * p.spacing_micros)
      / p.spacing_micros)) end"""
_FREE_PLACES = f"""with freed as materialized (
  select held.retention_class, held.id from {_GROUPS}
  cross join lateral ({_NEXT.format(group="flow_group", hold="concurrency")}) as next
  left join workspace w on w.organization_id = g.organization_id and w.id = next.workspace_id
  left join lateral flow_limits(g.organization_id, next.execution_type, next.definition_id) as l on true
  cross join lateral ({_PLACES}) as busy
  cross join lateral ({_HELD.format(group="flow_group", hold="concurrency", most=_FREE_NOW)}) as held
) {_FREE}"""  # noqa: S608  (numbers of our own)
_FREE_PACES = f"""with freed as materialized (
  select held.retention_class, held.id from {_GROUPS}
  cross join lateral ({_NEXT.format(group="pace_group", hold="rate")}) as next
  left join workspace w on w.organization_id = g.organization_id and w.id = next.workspace_id
  left join lateral flow_limits(g.organization_id, next.execution_type, next.definition_id) as l on true
  left join flow_pace p on p.organization_id = g.organization_id and p.pace_group = g.flow_group
  cross join lateral ({_HELD.format(group="pace_group", hold="rate", most=_STARTS_NOW)}) as held
) {_FREE}"""  # noqa: S608  (numbers of our own)
_ASKED = f"""select r.retention_class, r.id, r.organization_id, r.flow_group, r.pace_group, r.execution_type,
  coalesce(r.agent_id, r.orchestration_id) as definition_id
from unnest($1::smallint[], $2::uuid[]) with ordinality as i(retention_class, id, number)
join run r on r.retention_class = i.retention_class and r.id = i.id
where i.retention_class {FEW}
  and case r.status when 'queued' then r.dispatched_at is null and r.hold is null and r.flow_since is null end
  and not {KILLED}
order by i.number for update of r skip locked"""  # noqa: S608
_STATES = f"""select g.flow_group, g.pace_group, l.places, l.starts, l.seconds, l.burst, p.arrival_micros,
  case when l.places is not null then ({_PLACES}) end as runs,
  exists (select from run r where r.organization_id = g.organization_id and r.pace_group = g.pace_group
    and r.hold = 'rate' and r.status = 'queued') as has_held,
  (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[])
  as g(organization_id, flow_group, pace_group, execution_type, definition_id)
left join lateral flow_limits(g.organization_id, g.execution_type, g.definition_id) as l on true
left join flow_pace p on p.organization_id = g.organization_id and p.pace_group = g.pace_group"""  # noqa: S608
_TAKE = """update run r set dispatched_at = now(), flow_since = now()
from unnest($1::smallint[], $2::uuid[]) as i(retention_class, id)
where i.retention_class between 0 and 9999 and r.retention_class = i.retention_class and r.id = i.id"""
_HOLD = """update run r set hold = i.hold
from unnest($1::smallint[], $2::uuid[], $3::text[]) as i(retention_class, id, hold)
where i.retention_class between 0 and 9999 and r.retention_class = i.retention_class and r.id = i.id"""
_NOTE = """insert into flow_change (organization_id, flow_group)
select * from unnest($1::uuid[], $2::uuid[])"""
_KEEP_PACE = """insert into flow_pace as p
  (organization_id, pace_group, arrival_micros, spacing_micros, burst, wakes_at)
select organization_id, pace_group, arrival, spacing, burst, to_timestamp(wakes / 1000000.0)
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::integer[], $6::bigint[])
  as i(organization_id, pace_group, arrival, spacing, burst, wakes)
on conflict (organization_id, pace_group) do update set arrival_micros = excluded.arrival_micros,
  spacing_micros = excluded.spacing_micros, burst = excluded.burst, wakes_at = excluded.wakes_at"""
# The groups of which something is put aside, found by leaping from one to the next.
_HOLDING = """with recursive g as (
  (select organization_id, {group} as flow_group from run where hold = '{hold}' and status = 'queued'
    and (organization_id, {group}) > ($1::uuid, $2::uuid) order by organization_id, {group} limit 1)
  union all
  select following.* from g cross join lateral (
    select r.organization_id, r.{group} from run r where r.hold = '{hold}' and r.status = 'queued'
      and (r.organization_id, r.{group}) > (g.organization_id, g.flow_group)
    order by r.organization_id, r.{group} limit 1) following
) select organization_id, flow_group from g limit {most}"""
_HOLDING_PLACES = _HOLDING.format(group="flow_group", hold="concurrency", most=NET_GROUPS)
_HOLDING_PACES = _HOLDING.format(group="pace_group", hold="rate", most=NET_GROUPS)
_FORGET = """delete from flow_pace where wakes_at is null and arrival_micros
  < (extract(epoch from now() - make_interval(secs => $1)) * 1000000)::bigint"""
_FIRST = UUID(int=0), UUID(int=0)
Key = tuple[UUID, UUID]
"""An organization and a group of it."""


class Asked(NamedTuple):
    """A run that asks for its place, locked."""

    retention_class: int
    id: UUID
    organization_id: UUID
    groups: Groups
    execution_type: str
    definition_id: UUID


@dataclass(slots=True)
class Ledger:
    """What is known of groups in one round of admission, and what the round changes."""

    now: int
    places: dict[UUID, int] = field(default_factory=dict)
    """Places that are free, of those groups whose definition limits them now."""
    paces: dict[UUID, Pace] = field(default_factory=dict)
    arrivals: dict[UUID, int] = field(default_factory=dict)
    holding: set[UUID] = field(default_factory=set)
    """Paced groups of which something is put aside."""
    moved: dict[UUID, UUID] = field(default_factory=dict)
    """Paced groups to be kept anew, each with its organization."""
    passed: set[Key] = field(default_factory=set)
    """Groups with a place that this run could not take, because it came too early: the next may."""

    def enter(self, asked: Asked) -> str | None:
        """Give the run its place in its groups, or say which of them it has to wait for."""
        flow, pace = asked.groups
        if pace in self.paces:
            self.moved[pace] = asked.organization_id  # whoever else waits for it is woken, even if this one cannot go
        if flow in self.places and self.places[flow] <= 0:
            return "concurrency"
        if pace in self.paces:
            spaced, arrival = self.paces[pace], self.arrivals[pace]
            if spaced.opens_at(arrival, self.now) > self.now:
                self.holding.add(pace)
                if flow is not None:
                    self.passed.add((asked.organization_id, flow))
                return "rate"
            self.arrivals[pace] = spaced.after_start(arrival, self.now)
        if flow in self.places:
            self.places[flow] -= 1
        return None

    @classmethod
    def of(cls, rows: Sequence[Any]) -> Ledger:
        """What the database says of the groups."""
        ledger = cls(now=max((row["now_micros"] for row in rows), default=0))
        for row in rows:
            if row["places"] is not None and row["flow_group"] is not None:
                ledger.places[row["flow_group"]] = row["places"] - row["runs"]
            if row["starts"] is not None and row["pace_group"] is not None:
                rate = Rate(limit=row["starts"], seconds=row["seconds"], burst=row["burst"])
                ledger.paces[row["pace_group"]] = rate.pace
                ledger.arrivals[row["pace_group"]] = row["arrival_micros"] or 0
                if row["has_held"]:
                    ledger.holding.add(row["pace_group"])
        return ledger

    def pace_rows(self) -> list[tuple[Any, ...]]:
        """What to keep of paced groups; they wake somebody only where something is put aside."""
        rows = []
        for group, organization_id in self.moved.items():
            pace, arrival = self.paces[group], self.arrivals[group]
            wakes = pace.opens_at(arrival, self.now) if group in self.holding else None
            rows.append((organization_id, group, arrival, pace.spacing, pace.burst, wakes))
        return rows


async def enter_groups(connection: Any, keys: tuple[list[int], list[UUID]]) -> tuple[set[UUID], int]:
    """Give these queued runs their places in this order: which have one, and how many others were put aside."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        asked = [_asked(row) for row in await connection.fetch(_ASKED, *keys)]
        if not asked:
            return set(), 0
        groups = {(one.organization_id, *one.groups, one.execution_type, one.definition_id) for one in asked}
        ledger = Ledger.of(await connection.fetch(_STATES, *_columns(groups)))
        answers = [(one, ledger.enter(one)) for one in asked]
        ready = [one for one, hold in answers if hold is None]
        held = [(one.retention_class, one.id, hold) for one, hold in answers if hold is not None]
        if ready:
            await connection.execute(_TAKE, *_columns((one.retention_class, one.id) for one in ready))
        if held:
            await connection.execute(_HOLD, *_columns(held))
        if ledger.passed:
            await connection.execute(_NOTE, *_columns(ledger.passed))
        if paces := ledger.pace_rows():
            await connection.execute(_KEEP_PACE, *_columns(paces))
    return {one.id for one in ready}, len(held)


async def free_groups(connection: Any) -> None:
    """Take from their hold the next runs of every group that has moved since the last time."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        moved = await connection.fetch(_MOVED)
        if moved:
            columns = _columns(tuple(row) for row in moved)
            await connection.execute(_FREE_PLACES, *columns)
            await connection.execute(_FREE_PACES, *columns)


@dataclass(slots=True)
class Net:
    """Goes over the groups that hold something, some at a time: a limit that was raised frees without an end."""

    _places: Key = _FIRST
    _paces: Key = _FIRST

    async def look_at_places(self, connection: Any) -> None:
        """Free what a raised limit has room for."""
        self._places = await self._look(connection, self._places, _HOLDING_PLACES, _FREE_PLACES)

    async def look_at_paces(self, connection: Any) -> None:
        """Let a run of each paced group ask again, under today's rate; forget groups that bind nobody."""
        self._paces = await self._look(connection, self._paces, _HOLDING_PACES, _FREE_PACES)
        await connection.execute(_FORGET, float(IDLE_SECONDS))

    @staticmethod
    async def _look(connection: Any, after: Key, find: str, free: str) -> Key:
        found: list[Key] = [(row[0], row[1]) for row in await connection.fetch(find, *after)]
        if found:
            async with connection.transaction():
                await connection.execute(_LOCK)
                await connection.execute(free, *_columns(found))
        return _FIRST if len(found) < NET_GROUPS else found[-1]


def _asked(row: Any) -> Asked:
    retention_class, run_id, organization_id, flow, pace, kind, definition_id = row
    return Asked(retention_class, run_id, organization_id, Groups(flow, pace), kind, definition_id)


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
