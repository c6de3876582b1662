"""What a queued run waits for, found when somebody asks; nothing of it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from chassis.errors import RefusalError
from chassis.objects import Objects, read_payload
from chassis.uow import UnitOfWork
from execution.domain.flows import Concurrency, Flow, Rate, key_of, shown_key
from execution.domain.runs import RunStatus
from execution.tables.kill_switches import KILLED
from execution.tables.runs import OPEN, Run

# The order of what is asked is that of admission: the first that forbids is what the run waits for.
_STANDING = f"""select o.status as organization_status, w.status as workspace_status, {KILLED} as is_killed,
  coalesce(w.max_concurrent_executions, 1) as places,
  (select count(*) from run b where b.organization_id = r.organization_id and b.workspace_id = r.workspace_id
    and b.status in ('running', 'cancelling')) as runs,
  case when r.flow_group is not null and r.flow_since is null then (select count(*) from run b
    where b.organization_id = r.organization_id and b.flow_group = r.flow_group and b.flow_since is not null
      and b.{OPEN}) end as group_runs,
  p.arrival_micros, (extract(epoch from now()) * 1000000)::bigint as now_micros,
  d.config -> 'flow' as flow, v.config -> 'flow' as own_flow
from run r
left join organization_rules o on o.organization_id = r.organization_id
left join workspace w on w.organization_id = r.organization_id and w.id = r.workspace_id
left join flow_pace p on p.organization_id = r.organization_id and p.pace_group = r.pace_group
left join lateral (
  select v.config from agent a join agent_version v on v.organization_id = a.organization_id
    and v.id = a.current_version_id where a.organization_id = r.organization_id and a.id = r.agent_id
  union all
  select v.config from orchestration c join orchestration_version v on v.organization_id = c.organization_id
    and v.id = c.current_version_id where c.organization_id = r.organization_id and c.id = r.orchestration_id
) as d on true
left join lateral (
  select config from agent_version where organization_id = r.organization_id and id = r.version_id
  union all
  select config from orchestration_version where organization_id = r.organization_id and id = r.version_id
) as v on true
where r.organization_id = $1 and r.retention_class = $2 and r.id = $3"""  # noqa: S608  (statuses of our own)


class Hindrance(NamedTuple):
    """Why a queued run has not started."""

    reason: str
    """`organization <status>`, `workspace <status>`, `kill switch`, `workspace limit`, `concurrency`, `rate`; `turn`
    where others go first, `worker` where it has been let in and nobody has taken it yet."""
    limit: int | None = None
    under_way: int | None = None
    """How many runs have the places that there are."""
    seconds: int | None = None
    """Of a rate: in how many seconds there are `limit` starts."""
    key: str | None = None
    """Of a concurrency or rate by key: which. None where there is none, or the caller may not see the input."""
    until: datetime | None = None
    """Of a rate: when the next start is allowed."""

    @property
    def is_worth_telling(self) -> bool:
        """Whether it may last: everybody's run waits a moment for its turn and for a worker."""
        return self.reason not in ("turn", "worker")

    def told(self) -> dict[str, Any]:
        """What there is to say."""
        return {name: value for name, value in self._asdict().items() if value is not None}


async def find_hindrance(uow: UnitOfWork, run: Run, objects: Objects) -> Hindrance | None:
    """What a queued run waits for; None for any other run."""
    if run.status != RunStatus.QUEUED:
        return None
    if run.dispatched_at is not None:
        return Hindrance("worker")
    rows = await uow.fetch(_STANDING, uow.organization_id, run.retention_class, run.id)
    if not rows:
        return None
    row = rows[0]
    found = _of_place(run, row) or _of_flow(run, row)
    if found is None:
        return Hindrance("turn")
    if found.reason not in ("concurrency", "rate") or "input" in uow.permit.masked:
        return found
    flow = _flow(row["own_flow"])
    part = flow.concurrency if found.reason == "concurrency" else flow.rate
    return found._replace(key=await _key(run, part, objects))


def told_of(hindrance: Hindrance | None) -> dict[str, Any] | None:
    """What there is to say of it; None where there is none."""
    return None if hindrance is None else hindrance.told()


def _of_place(run: Run, row: Any) -> Hindrance | None:
    if row["organization_status"] in ("suspended", "deleted"):
        return Hindrance(f"organization {row['organization_status']}")
    status = row["workspace_status"]
    if status not in (None, "active") and not (status == "draining" and run.has_begun):
        return Hindrance(f"workspace {status}")
    if row["is_killed"]:
        return Hindrance("kill switch")
    return None


def _of_flow(run: Run, row: Any) -> Hindrance | None:
    """A group that is full before the workspace's limit: it is what somebody can do something about."""
    flow = _flow(row["flow"])
    places, rate = flow.concurrency, flow.rate
    if places is not None and row["group_runs"] is not None and row["group_runs"] >= places.limit:
        return Hindrance("concurrency", limit=places.limit, under_way=row["group_runs"])
    if rate is not None and run.pace_group is not None and run.flow_since is None:
        now = row["now_micros"]
        opens = rate.pace.opens_at(row["arrival_micros"] or 0, now)
        if opens > now:
            until = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=opens)
            return Hindrance("rate", limit=rate.limit, seconds=rate.seconds, until=until)
    if row["runs"] >= row["places"]:
        return Hindrance("workspace limit", limit=row["places"], under_way=row["runs"])
    return None


def _flow(stored: Any) -> Flow:
    value = orjson.loads(stored) if isinstance(stored, str | bytes) else stored
    return Flow.model_validate(value or {})


async def _key(run: Run, part: Concurrency | Rate | None, objects: Objects) -> str | None:
    if part is None or part.key is None:
        return None
    try:
        return shown_key(key_of(part, await read_payload(run.input, run.input_ref, objects)))
    except RefusalError:
        return None
