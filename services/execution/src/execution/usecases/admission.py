"""Admission: the backlog stays in the database, and only what may run soon is put on the queue.

One process at a time admits (a lock picks it), so what runs at once per workspace is counted exactly. The organization
with the fewest runs under way is next, and its workspaces take turns, so a flood of one does not delay another; within
a workspace the higher priority, then the older run goes first. Statements are the sweeper's: they cross organizations,
with named columns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import asyncpg

from chassis.telemetry import logger
from execution.clients.dispatch import Dispatch, Line
from execution.tables.kill_switches import KILLED
from execution.tables.runs import BEGUN
from execution.usecases.engine_loop import Addresses, addresses_of
from execution.usecases.engine_statements import FEW, KEYED_PLANS
from execution.usecases.flow_admission import DUE, Net, enter_groups, free_groups
from execution.usecases.wake_ups import ENDED, QUEUED
from spine.stream import keep_running

if TYPE_CHECKING:
    from spine.service import Running

AHEAD = 256
"""Runs on the queue that no worker has claimed yet, at most: as many as one worker has slots by itself. What waits
beyond is in the database, where a cancel, a higher priority or another's turn still counts."""
BURST, READY = 64, 16
"""Of those, so many at once where none is left, and no more than so many behind full hands: whoever comes later waits
for few of others' runs. Only so many of an organization with less under way than the busiest one may go beyond."""
FEW_DISPATCHED = 8
"""Up to so many on the queue, the next run does not wait until it is known which of them were claimed."""
POLL_SECONDS = 1.0
BUSY_POLL_SECONDS = 0.05
"""While runs are on the queue: how soon room that nobody told of is seen."""
PACE_SECONDS = 0.01
"""At most a hundred rounds a second, however often it is stirred."""
STANDBY_SECONDS = 0.5
PLACES_SECONDS, PACES_SECONDS = 5.0, 30.0
"""How soon a limit that was raised is noticed where no run of the group ends: of runs at once, of starts in a time."""
ORPHANED_SECONDS = 60
"""A run dispatched so long ago and not claimed is dispatched again; where its message did survive, nobody is misled."""
FREE_TIER_CONCURRENCY = 1
"""What a workspace may run at once as long as identity's number is not known here."""
OPEN = "status in ('scheduled', 'queued', 'running', 'waiting', 'cancelling')"
log = logger(part="admission")

# Every workspace with such runs, found by leaping through their partial index, never by reading it.
_SPOTS = """with recursive spot as (
  (select organization_id, workspace_id from run where {such} order by organization_id, workspace_id limit 1)
  union all
  select following.* from spot cross join lateral (
    select r.organization_id, r.workspace_id from run r
    where {such} and (r.organization_id, r.workspace_id) > (spot.organization_id, spot.workspace_id)
    order by r.organization_id, r.workspace_id limit 1) following
)"""
SPOTS = _SPOTS.format(such=OPEN)
_LOCK = "select pg_try_advisory_lock(hashtextextended('remit.admission', 0))"
_STANDING = f"""select r.id, r.status, r.token, r.dispatched_at < now() - make_interval(secs => $3) as is_orphaned
from unnest($1::smallint[], $2::uuid[]) as i(retention_class, id)
join run r on r.retention_class = i.retention_class and r.id = i.id where i.retention_class {FEW}"""  # noqa: S608
_DISPATCHED = """select r.organization_id, r.workspace_id, r.retention_class, r.id, r.token from run r
where r.status = 'queued' and r.dispatched_at is not null"""
# Of each workspace that has something to admit its even share of what may be taken, so that a round reads about twice
# as much as it takes, however many workspaces there are and however much waits in each. What one leaves over of its
# share is the others' in the next round, a hundredth of a second later.
_ROWS = f"""{{spots}}, room as materialized (
  select * from (
    select spot.*, coalesce(w.max_concurrent_executions, {FREE_TIER_CONCURRENCY}) - busy.runs as places, busy.runs
    from spot cross join lateral (
      select count(*) as runs from run r where r.organization_id = spot.organization_id
        and r.workspace_id = spot.workspace_id and r.status in ('running', 'cancelling')) as busy
    left join workspace w on w.id = spot.workspace_id and w.organization_id = spot.organization_id
    left join organization_rules o on o.organization_id = spot.organization_id
    where coalesce(w.status, 'active') = '{{status}}' and coalesce(o.status, 'active') not in ('suspended', 'deleted')
      and exists (select from run r where r.organization_id = spot.organization_id
      and r.workspace_id = spot.workspace_id and r.status = 'queued' and {{which}} r.hold is null
      and r.dispatched_at is null)) as waiting
  where places > 0
)
select flow.*, room.organization_id, room.workspace_id, room.places, room.runs, q.retention_class, q.id, q.token,
  q.is_grouped
from ({{flow}}) as flow left join (room cross join lateral (
  select r.retention_class, r.id, r.token, r.priority,
    r.flow_since is null and (r.flow_group is not null or r.pace_group is not null) as is_grouped from run r
  where r.organization_id = room.organization_id and r.workspace_id = room.workspace_id and r.status = 'queued'
    and {{which}} r.hold is null and r.dispatched_at is null and not {KILLED}
  order by r.hold, r.priority desc, r.id
  limit least(room.places, 1 + 2 * $1::integer / (select count(*) from room))) q) on true
order by room.organization_id, room.workspace_id, q.priority desc, q.id"""  # noqa: S608  (numbers of our own)
_BACKLOG = _ROWS.format(
    spots=SPOTS,
    status="active",
    which="",
    flow=f"select {DUE} as is_due, exists (select from workspace where status = 'draining') as has_draining",  # noqa: S608
)
# Of workspaces that drain only what has begun, in an index of its own: of what has not there may be any number.
_DRAINING = _ROWS.format(
    spots=_SPOTS.format(such=f"status = 'queued' and {BEGUN}"),
    status="draining",
    which=f"{BEGUN} and",
    flow="select",
)
# `case` hides the status from the planner, which would else walk all that is queued for each run.
_TAKE = f"""with waiting as (
  select r.retention_class, r.id from unnest($1::smallint[], $2::uuid[]) as i(retention_class, id)
  join run r on r.retention_class = i.retention_class and r.id = i.id
  where i.retention_class {FEW} and case r.status when 'queued' then r.dispatched_at is null end and not {KILLED}
  order by r.id for update of r skip locked
)
update run r set dispatched_at = now() from waiting
where r.retention_class = waiting.retention_class and r.id = waiting.id returning r.id"""  # noqa: S608
_MARK = """update run r set {what} from unnest($1::smallint[], $2::uuid[]) as i(retention_class, id)
where i.retention_class between 0 and 9999 and r.retention_class = i.retention_class and r.id = i.id
  and r.status = 'queued'"""
_AGAIN = _MARK.format(what="dispatched_at = now()")
# Nor has it a place in its group any more, as long as it has not begun: where its workspace drains, it may never begin.
_BACK = _MARK.format(what="dispatched_at = null, flow_since = case when r.token > 0 then r.flow_since end")


class Candidate(NamedTuple):
    """A queued run."""

    organization_id: UUID
    workspace_id: UUID
    retention_class: int
    id: UUID
    token: int
    is_grouped: bool = False
    """Whether it still has to get its place in a group of its definition."""

    @property
    def dispatch(self) -> Dispatch:
        """Its message."""
        return Dispatch(self.organization_id, self.retention_class, self.id, self.token)


def take_turns(
    backlog: Iterable[Candidate],
    count: int,
    loads: Mapping[UUID, int],
    *,
    most: int | None = None,
    ahead: Mapping[UUID, int] | None = None,
) -> list[Candidate]:
    """The first `count` of a backlog: each time the organization's turn that has the fewest under way.

    `loads` says how many each has; within an organization its workspaces take turns. Up to `most` go if theirs has less
    than the busiest one and fewer than READY on the queue: `ahead` says how many it has there.
    """
    busiest, most, on_queue = max(loads.values(), default=0), count if most is None else most, Counter(ahead or {})
    organizations: dict[UUID, dict[UUID, deque[Candidate]]] = defaultdict(dict)
    for one in backlog:
        organizations[one.organization_id].setdefault(one.workspace_id, deque()).append(one)
    turns = [
        (loads.get(organization_id, 0), place, deque(workspaces.values()))
        for place, (organization_id, workspaces) in enumerate(organizations.items())
    ]
    heapify(turns)
    chosen: list[Candidate] = []
    while turns and len(chosen) < most:
        load, place, workspaces = heappop(turns)
        line = workspaces.popleft()
        organization_id = line[0].organization_id
        if len(chosen) >= count and (load >= busiest or on_queue[organization_id] >= READY):
            continue  # not before there is room
        on_queue[organization_id] += 1
        chosen.append(line.popleft())
        if line:
            workspaces.append(line)
        if workspaces:
            heappush(turns, (load + 1, place, workspaces))
    return chosen


def admission(ahead: int = AHEAD) -> Callable[[Running], Coroutine[Any, Any, None]]:
    """The worker for `Service(workers=[...])`; in every process, of which one admits and the others stand by."""

    async def run_admission(running: Running) -> None:
        await Admission(addresses_of(running), ahead=ahead).run()

    return run_admission


@dataclass
class Admission:
    """Puts runs on the queue until cancelled."""

    addresses: Addresses
    ahead: int = AHEAD
    dispatched: dict[UUID, Candidate] = field(default_factory=dict)
    """On the queue and, when last seen, not claimed."""
    _stir: asyncio.Event = field(default_factory=asyncio.Event)
    _has_news: bool = True
    """Whether something may have been queued since the last look."""
    _is_held_up: bool = False
    """Whether there is a run that what is on the queue of its workspace has left no place for."""
    _net: Net = field(default_factory=Net)
    _places_at: float = 0.0
    _paces_at: float = 0.0

    async def run(self) -> None:
        """Admit, or stand by while another process does."""
        await keep_running(self._life, "execution.admission", pause=lambda _: 0.5)

    async def _life(self) -> None:
        connection = await sweeper(self.addresses, "admission")
        try:
            while not await connection.fetchval(_LOCK):  # noqa: ASYNC110  (the lock is another process's)
                await asyncio.sleep(STANDBY_SECONDS)
            line = await Line.open(self.addresses.amqp_url, queue=self.addresses.queue)
            try:
                await self._admit_forever(connection, line)
            finally:
                await line.close()
        finally:
            connection.terminate()

    async def _admit_forever(self, connection: Any, line: Line) -> None:
        for channel in (QUEUED, ENDED):  # there is more to admit, or more room
            await connection.add_listener(channel, lambda _connection, _pid, heard, _payload: self.hear(heard))
        self._has_news = True
        # Whoever admitted before us may have been killed between its commit and the broker's answer.
        found = [Candidate(*row) for row in await connection.fetch(_DISPATCHED)]
        self.dispatched = {one.id: one for one in found}
        await self._publish(connection, line, found)
        clock = asyncio.get_running_loop().time
        while not line.lost.is_set():
            self._stir.clear()
            started = clock()
            await self._spread_net(connection, started)
            if not await self.admit(connection, line):
                await _first(self._stir, line.lost, seconds=BUSY_POLL_SECONDS if self.dispatched else POLL_SECONDS)
            await asyncio.sleep(started + PACE_SECONDS - clock())  # a lone run after a rest is not delayed
        raise ConnectionError("the broker hung up")

    async def _spread_net(self, connection: Any, now: float) -> None:
        """Once in a while, look for what groups hold back though nobody has told of their room."""
        if now >= self._places_at:
            self._places_at = now + PLACES_SECONDS
            await self._net.look_at_places(connection)
        if now >= self._paces_at:
            self._paces_at = now + PACES_SECONDS
            await self._net.look_at_paces(connection)

    def hear(self, channel: str) -> None:
        """Somebody says that runs were queued, or that some have ended."""
        self._has_news = self._has_news or channel == QUEUED
        self._stir.set()

    async def admit(self, connection: Any, line: Line) -> int:
        """One round; returns how many runs it has put on the queue or aside."""
        if len(self.dispatched) > FEW_DISPATCHED:
            await self._look_after(connection, line)
        chosen = await self._next(connection, line)
        if not chosen and 0 < len(self.dispatched) <= FEW_DISPATCHED:
            # What was claimed meanwhile need not be known before the next run is on its way, unless it is in its way.
            await self._look_after(connection, line)
            chosen = await self._next(connection, line) if self._is_held_up else []
        if not chosen:
            return 0
        grouped = [one for one in chosen if one.is_grouped]
        others = [one for one in chosen if not one.is_grouped]
        taken = {row["id"] for row in await connection.fetch(_TAKE, *_keys(others))} if others else set()
        aside = 0
        if grouped:
            entered, aside = await enter_groups(connection, _keys(grouped))
            taken |= entered
        ready = [one for one in chosen if one.id in taken]
        self.dispatched.update((one.id, one) for one in ready)
        await self._publish(connection, line, ready)
        return len(ready) + aside

    async def _next(self, connection: Any, line: Line) -> list[Candidate]:
        """Those whose turn it is, as far as there is room for them, or they are of one who has little under way."""
        most, room = self.ahead - len(self.dispatched), await self._room(line)
        if most <= 0 or (room <= 0 and not self._has_news):
            return []
        self._has_news = False  # what is told from here on may be more than what is read
        return await self._choose(connection, max(0, min(room, most)), most)

    async def _room(self, line: Line) -> int:
        """How many may follow those that are on the queue already; many, where all hands are free."""
        if not self.dispatched:
            return BURST
        if len(self.dispatched) < READY:
            return READY - len(self.dispatched)
        waiting = await line.waiting()
        return READY - waiting if waiting else BURST

    async def _choose(self, connection: Any, count: int, most: int) -> list[Candidate]:
        """Whose turn it is, of what waits for nothing else."""
        rows = await connection.fetch(_BACKLOG, max(count, BURST))
        if rows[0]["is_due"]:
            await free_groups(connection)
            rows = await connection.fetch(_BACKLOG, max(count, BURST))
        if rows[0]["has_draining"]:
            rows += await connection.fetch(_DRAINING, max(count, BURST))
        waiting = Counter(one.workspace_id for one in self.dispatched.values())
        ahead = Counter(one.organization_id for one in self.dispatched.values())
        loads = Counter(ahead)
        backlog, seen, self._is_held_up = [], set(), False
        for row in rows:
            if row["id"] is None:
                continue
            if row["workspace_id"] not in seen:
                seen.add(row["workspace_id"])
                loads[row["organization_id"]] += row["runs"]
            # `places` knows what runs; what is on the queue for this workspace takes places too.
            if waiting[row["workspace_id"]] >= row["places"]:
                self._is_held_up = True
            else:
                waiting[row["workspace_id"]] += 1
                backlog.append(
                    Candidate(
                        row["organization_id"], row["workspace_id"], row["retention_class"], row["id"], row["token"],
                        row["is_grouped"],
                    )
                )  # fmt: skip
        return take_turns(backlog, count, loads, most=most, ahead=ahead)

    async def _look_after(self, connection: Any, line: Line) -> None:
        """Forget what was claimed or cancelled, and dispatch again what nobody has claimed for long."""
        if not self.dispatched:
            return
        rows = await connection.fetch(_STANDING, *_keys(self.dispatched.values()), ORPHANED_SECONDS)
        # A newer token is another turn of the run: what stands here of it is over.
        mine = {run_id: one.token for run_id, one in self.dispatched.items()}
        queued = {row["id"] for row in rows if row["status"] == "queued" and row["token"] == mine[row["id"]]}
        self.dispatched = {run_id: one for run_id, one in self.dispatched.items() if run_id in queued}
        orphans = [self.dispatched[row["id"]] for row in rows if row["id"] in queued and row["is_orphaned"]]
        if orphans:
            log.warning("dispatched again", runs=len(orphans))
            await connection.execute(_AGAIN, *_keys(orphans))
            await self._publish(connection, line, orphans)

    async def _publish(self, connection: Any, line: Line, candidates: Sequence[Candidate]) -> None:
        """Publish; what the broker did not take goes back to the backlog."""
        arrived = await line.publish([one.dispatch for one in candidates])
        lost = [one for one, there in zip(candidates, arrived, strict=True) if not there]
        if lost:
            await connection.execute(_BACK, *_keys(lost))
            for one in lost:
                self.dispatched.pop(one.id, None)


async def sweeper(addresses: Addresses, what: str) -> Any:
    """A connection of the role that sees named columns of all organizations.

    It only notes who is to do what: what of that is forgotten in a crash of PostgreSQL is found again, so nobody waits
    until it is on disk.
    """
    return await asyncpg.connect(
        addresses.sweep_dsn,
        timeout=5,
        command_timeout=10,
        server_settings=KEYED_PLANS | {"application_name": f"remit-execution {what}", "synchronous_commit": "off"},
    )


async def _first(*events: asyncio.Event, seconds: float) -> None:
    """Wait for any of these, or for so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _keys(candidates: Iterable[Candidate]) -> tuple[list[int], list[UUID]]:
    listed = list(candidates)
    return [one.retention_class for one in listed], [one.id for one in listed]
