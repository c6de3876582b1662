"""Kill switches: engaged, everything in their scope ends and nothing of it starts, until they are released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import LockNotAvailableError
from sqlalchemy import select

from chassis.caller import Caller
from chassis.errors import InvalidError, NotFoundError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import KillSwitchEngaged, KillSwitchReleased, RunCancelled
from execution.domain.kills import KillScope
from execution.tables.kill_switches import HITS, KillSwitch
from execution.usecases.engine_statements import FEW
from execution.usecases.waits import close_waits
from resources.listing import Resource, counter, lister
from resources.patches import touch

KILL_SWITCHES = Resource(
    KillSwitch,
    filters=("id", "scope", "target_id", "created_by", "created_at", "released_at"),
    sorts=("created_at", "updated_at"),
    words={"scope": KillScope},
)
list_kill_switches = lister(KILL_SWITCHES)
count_kill_switches = counter(KILL_SWITCHES)

RUNS_AT_ONCE = 1_000
"""Runs that one transaction ends; what a long backlog leaves over is the next one's, and cannot start meanwhile."""
RECENT_SECONDS = 10
"""How long after a run was stopped its children are looked for that had not been stored when it was."""
CALLS_SHOWN = 100

_EXISTS = {
    KillScope.WORKSPACE: "select exists (select from workspace where id = $1)",
    KillScope.AGENT: "select exists (select from agent where id = $1)",
    KillScope.VERSION: """select exists (select from agent_version where id = $1)
      or exists (select from orchestration_version where id = $1)""",
    KillScope.RUN: "select exists (select from run where id = $1)",
}
_SEEN = "r.retention_class, r.id, r.status, r.parent_run_id, r.dispatched_at"
_OPEN = "('scheduled', 'queued', 'waiting', 'running')"
# What waits and what runs in one statement, in the order of ids as the engine takes its locks: a run that is claimed
# meanwhile is waited for, and then met as what it has become. What is on its way comes first: the rest cannot start.
# With a run go those below it, whatever they are of: they could start, so they come before what cannot. Who was stopped
# a moment ago is asked again for children that were being started then. `case` and `offset 0` keep the planner from
# reading all open runs for each of them.
STOP = f"""with recursive hit as (
  select {_SEEN}, k.scope <> 'organization' and r.execution_type = 'orchestration' as is_above
  from kill_switch k join run r on r.organization_id = k.organization_id
  where k.id = $1 and r.organization_id = $2 and r.status in {_OPEN} and {HITS}
  order by r.status <> 'running', r.dispatched_at is null limit {RUNS_AT_ONCE}
), family as (
  (select {_SEEN.replace("r.", "hit.")} from hit where is_above and retention_class {FEW})
  union (select * from (
    select {_SEEN} from kill_switch k join run r on r.organization_id = $2 and r.kill_switch_id = k.id
    where k.id = $1 and k.scope <> 'organization' and r.execution_type = 'orchestration'
      and r.cancel_requested_at > $3::timestamptz - interval '{RECENT_SECONDS} s'
    order by r.cancel_requested_at desc limit {RUNS_AT_ONCE}) as recent where retention_class {FEW})
  union select child.* from family cross join lateral (
    select {_SEEN} from run r where r.organization_id = $2 and r.parent_run_id = family.id
      and case when r.status in {_OPEN} or r.status = 'cancelling' then true end offset 0) as child
), due as (
  select * from (
    select {_SEEN.replace("r.", "hit.")} from hit union (select * from family limit {3 * RUNS_AT_ONCE})) as seen
  where status in {_OPEN} order by seen.status <> 'running', seen.parent_run_id is null, seen.dispatched_at is null
  limit {RUNS_AT_ONCE}
), locked as (
  select r.retention_class, r.id, r.status from due
  join run r on r.retention_class = due.retention_class and r.id = due.id
  where r.status in {_OPEN} order by r.id for update of r {{wait}}
)
update run r set status = case locked.status when 'running' then 'cancelling' else 'cancelled' end,
  stop_reason = case when locked.status <> 'running' then 'killed' end, kill_switch_id = $1, waiting_for = null,
  wake_at = null, cancel_requested_at = $3, cancel_reason = $4,
  completed_at = case when locked.status <> 'running' then $3::timestamptz end, updated_at = $3, version = r.version + 1
from locked where r.retention_class = locked.retention_class and r.id = locked.id
returning r.id as run_id, r.workspace_id, r.created_by as owner_id, r.execution_type, r.agent_id, r.orchestration_id,
  r.step_count, r.input_tokens, r.output_tokens, r.cost_usd_micros, r.stop_reason,
  locked.status <> 'running' and r.last_step > 0 as has_waited"""  # noqa: S608  (text of our own)
# The planner takes what is below for much: it would read all runs for each, and compile for seconds what takes one.
_KEYED = "set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)"
_COUNT = """update run r set step_count = r.step_count + i.steps from unnest($2::uuid[], $3::integer[]) as i(id, steps)
where r.organization_id = $1 and r.id = i.id"""
PATIENCE = "200ms"
"""How long a run's row is waited for; who holds it longer is met by the next look."""
_REPORT = """select
  (select count(*) from run where organization_id = $1 and kill_switch_id = $2 and status <> 'cancelling') as stopped,
  (select count(*) from run where organization_id = $1 and kill_switch_id = $2 and status = 'cancelling') as stopping"""
# A call that was under way has left, whatever became of its run.
_LEFT = f"""select s.id from run r join step s on s.organization_id = r.organization_id
  and s.retention_class = r.retention_class and s.run_id = r.id
where r.organization_id = $1 and r.kill_switch_id = $2 and s.status <> 'skipped' and s.started_at <= $3
  and coalesce(s.completed_at, 'infinity') >= $3 order by s.id limit {CALLS_SHOWN}"""  # noqa: S608


class KillReport(NamedTuple):
    """What a switch has stopped so far."""

    stopped: int
    """Runs that have ended."""
    stopping: int
    """Runs whose worker has still to let go: within a second."""
    calls_left: list[UUID]
    """Steps whose call of an agent was under way when the switch was engaged; at most 100."""


async def engage_kill_switch(uow: UnitOfWork, *, scope: KillScope, target_id: UUID | None, reason: str) -> KillSwitch:
    """Stop everything in the scope and below it; what is engaged already stays, and stops what has slipped by.

    Runs that nobody works on end here and now, those in a worker's hands within a second, also while the broker is
    away. NotFoundError where there is no such target.
    """
    target = await _target(uow, scope, target_id)
    same = select(KillSwitch).where(
        KillSwitch.organization_id == uow.organization_id,
        KillSwitch.scope == scope,
        KillSwitch.target_id == target,
        KillSwitch.released_at.is_(None),
    )
    switch: KillSwitch | None = await uow.first(same)
    if switch is None:
        switch = _new_switch(uow, scope, target, reason)
        await uow.add(switch, conflict="Somebody is engaging the same switch.")
        uow.emit(KillSwitchEngaged.of(switch))
    await stop_runs(uow, switch)
    return switch


async def look_again(uow: UnitOfWork, kill_switch_id: UUID) -> tuple[KillSwitch, KillReport]:
    """Stop what was being started while the switch was engaged and could not see it yet; also what it has stopped."""
    switch = await uow.get(KillSwitch, kill_switch_id)
    await stop_runs(uow, switch)
    return switch, await read_report(uow, switch)


async def get_kill_switch(uow: UnitOfWork, kill_switch_id: UUID) -> KillSwitch:
    """One switch."""
    return await uow.get(KillSwitch, kill_switch_id)


async def read_report(uow: UnitOfWork, switch: KillSwitch) -> KillReport:
    """What the switch has stopped so far."""
    counts = (await uow.fetch(_REPORT, uow.organization_id, switch.id))[0]
    left = await uow.fetch(_LEFT, uow.organization_id, switch.id, switch.created_at)
    return KillReport(counts["stopped"], counts["stopping"], [row["id"] for row in left])


async def release_kill_switch(uow: UnitOfWork, kill_switch_id: UUID) -> KillSwitch:
    """Let runs of the scope start again; what was stopped stays stopped. Releasing it again changes nothing."""
    switch = await uow.get(KillSwitch, kill_switch_id, lock=True)
    if switch.released_at is None:
        switch.released_at, switch.released_by = uow.now, uow.caller.owner_id
        touch(uow, switch)
        uow.emit(KillSwitchReleased.of(switch))
    return switch


async def stop_runs(uow: UnitOfWork, switch: KillSwitch) -> int:
    """End what waits and stop what runs in an engaged switch's scope and below, up to 1,000 runs; returns how many."""
    values = switch.id, uow.organization_id, uow.now, f"killed: {switch.reason}"[:500]
    rows = await _stop(uow, values)
    ended = {row["run_id"]: dict(row) for row in rows if row["stop_reason"]}
    waited = [run_id for run_id, row in ended.items() if row["has_waited"]]
    given_up = await close_waits(uow, waited, "killed") if waited else {}
    if given_up:
        await uow.fetch(_COUNT, uow.organization_id, list(given_up), list(given_up.values()))
    for run_id, row in ended.items():
        uow.emit(RunCancelled.model_validate(row | {"step_count": row["step_count"] + given_up.get(run_id, 0)}))
    return len(rows)


async def _stop(uow: UnitOfWork, values: Sequence[Any]) -> Sequence[Any]:
    """Wait for rows that somebody holds, a moment; where that is not enough, stop all others."""
    try:
        async with uow.savepoint():
            await uow.fetch(f"select set_config('lock_timeout', $1, true), {_KEYED}", PATIENCE)
            return await uow.fetch(STOP.format(wait=""), *values)
    except LockNotAvailableError:
        await uow.fetch(f"select {_KEYED}")
        return await uow.fetch(STOP.format(wait="skip locked"), *values)


async def sweep_kill_switches(uow: UnitOfWork) -> int:
    """Stop what slipped by an engaged switch: claimed or started in the moment it was engaged. Returns how many."""
    stopped = 0
    for row in await uow.fetch("select organization_id, id from engaged_kill_switches()"):
        await uow.become(Caller.system(row["organization_id"], "execution.kill_switches"))
        switch = await uow.find(KillSwitch, row["id"])
        if switch is not None and switch.released_at is None:
            stopped += await stop_runs(uow, switch)
    return stopped


async def _target(uow: UnitOfWork, scope: KillScope, target_id: UUID | None) -> UUID:
    if scope is KillScope.ORGANIZATION:
        if target_id not in (None, uow.organization_id):
            raise NotFoundError("There is no organization with this id.")
        return uow.organization_id
    if target_id is None:
        raise InvalidError(f"Say which {scope}: target_id.", code="target_required")
    if not (await uow.fetch(_EXISTS[scope], target_id))[0][0]:
        raise NotFoundError(f"There is no {scope} with this id.")
    return target_id


def _new_switch(uow: UnitOfWork, scope: KillScope, target_id: UUID, reason: str) -> KillSwitch:
    return KillSwitch(
        id=new_id(),
        organization_id=uow.organization_id,
        scope=scope,
        target_id=target_id,
        reason=reason,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
