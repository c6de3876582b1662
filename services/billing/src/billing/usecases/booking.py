"""Booking attempts at steps: the ledger and its sums grow in the transaction of the offset.

Plain SQL over arrays, because up to 4,000 attempts come at once: a multi-row INSERT of SQLAlchemy passes the driver's
32,767 parameters at 1,800 of them, and takes twenty times as long to compile as this takes to run. One statement does
ledger, days and months: of a small batch the round trips were three quarters of the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.usecases.months import add_to_month
from chassis.uow import UnitOfWork
from contracts.execution import RunQueued, StepCompleted, StepEnded

NIL = UUID(int=0)
"""The agent of what no agent did."""
_MONTH = "date_trunc('month', {} at time zone 'utc') at time zone 'utc'"
_ADD_TO_MONTHS = """added as (
  update usage_record as u set {column} = u.{column} + month.amount, updated_at = $2, version = u.version + 1
  from month where u.organization_id = $1 and u.period_start = month.start returning month.start
)
select month.start, month.amount, (select count(*) from fresh) as fresh,
  month.start in (select start from added) as is_known from month"""

_BOOK = f"""with fresh as (
  insert into usage_event (id, organization_id, workspace_id, run_id, owner_id, node, attempt, agent_id, agent_semver,
    provider, model_name, succeeded, input_tokens, output_tokens, cost_usd_micros, price_version, occurred_at,
    booked_at)
  select id, $1, workspace_id, run_id, owner_id, node, attempt, agent_id, agent_semver, provider, model_name, succeeded,
    input_tokens, output_tokens, cost_usd_micros, price_version, occurred_at, $2
  from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::integer[], $9::uuid[], $10::text[],
    $11::text[], $12::text[], $13::boolean[], $14::bigint[], $15::bigint[], $16::bigint[], $17::text[],
    $18::timestamptz[])
  as attempt (id, workspace_id, run_id, owner_id, node, attempt, agent_id, agent_semver, provider, model_name,
    succeeded, input_tokens, output_tokens, cost_usd_micros, price_version, occurred_at)
  on conflict (id) do nothing
  returning occurred_at, agent_id, provider, model_name, owner_id, input_tokens, output_tokens, cost_usd_micros
), days as (
  insert into usage_day as d (organization_id, day, agent_id, provider, model_name, owner_id, steps, input_tokens,
    output_tokens, cost_usd_micros)
  select $1, (occurred_at at time zone 'utc')::date, coalesce(agent_id, '{NIL}'),
    provider, model_name, owner_id, count(*), sum(input_tokens), sum(output_tokens), sum(cost_usd_micros)
  from fresh group by 2, 3, 4, 5, 6 order by 2, 3, 4, 5, 6  -- one order of locks, whoever books
  on conflict (organization_id, day, agent_id, provider, model_name, owner_id) do update set
    steps = d.steps + excluded.steps, input_tokens = d.input_tokens + excluded.input_tokens,
    output_tokens = d.output_tokens + excluded.output_tokens,
    cost_usd_micros = d.cost_usd_micros + excluded.cost_usd_micros
), month as (
  select {_MONTH.format("occurred_at")} as start, sum(cost_usd_micros)::bigint as amount from fresh group by 1
), {_ADD_TO_MONTHS.format(column="cost_usd_micros")}"""  # noqa: S608  (text of our own)

_COUNT_RUNS = f"""with accepted as (
  select * from unnest($3::uuid[], $4::timestamptz[]) as accepted (id, at)
), fresh as (
  insert into counted_run (organization_id, id) select $1, id from accepted on conflict do nothing returning id
), month as (
  select {_MONTH.format("at")} as start, count(*) as amount from fresh join accepted using (id) group by 1
), {_ADD_TO_MONTHS.format(column="executions_count")}"""  # noqa: S608  (text of our own)


async def book_steps(uow: UnitOfWork, facts: Sequence[StepEnded]) -> int:
    """Book the organization's attempts that are not booked yet, and add them to the sums; returns how many were new."""
    attempts = {fact.step_id: fact for fact in facts}
    if not attempts:
        return 0
    columns = zip(*map(_attempt, attempts.values()), strict=True)
    rows = await uow.fetch(_BOOK, uow.organization_id, uow.now, *map(list, columns))
    return await _begin_months(uow, rows, "cost_usd_micros")


async def count_runs(uow: UnitOfWork, runs: Iterable[tuple[RunQueued, datetime]]) -> int:
    """Count the organization's runs in the month each was accepted in; returns how many were new."""
    times = {fact.run_id: time for fact, time in runs}
    rows = await uow.fetch(_COUNT_RUNS, uow.organization_id, uow.now, list(times), list(times.values()))
    return await _begin_months(uow, rows, "executions_count")


async def _begin_months(uow: UnitOfWork, rows: Sequence[Any], column: str) -> int:
    """Add to months that have no record yet; returns how many things were new."""
    for row in rows:
        if not row["is_known"]:
            await add_to_month(uow, row["start"], **{column: row["amount"]})
    return rows[0]["fresh"] if rows else 0


def _attempt(fact: StepEnded) -> tuple[Any, ...]:
    return (
        fact.step_id, fact.workspace_id, fact.run_id, fact.owner_id, fact.node, fact.attempt, fact.agent_id,
        fact.agent_semver, fact.provider, fact.model_name, isinstance(fact, StepCompleted), fact.input_tokens,
        fact.output_tokens, fact.cost_usd_micros, fact.price_version, fact.ended_at,
    )  # fmt: skip
