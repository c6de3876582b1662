"""Booking attempts at steps: the ledger and its sums grow in the transaction of the offset.

Plain SQL over arrays, because up to 4,000 attempts come at once: a multi-row INSERT of SQLAlchemy passes the driver's
32,767 parameters at 1,800 of them, and takes twenty times as long to compile as this takes to run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from billing.domain.plans import month_of
from billing.usecases.months import add_to_month
from chassis.uow import UnitOfWork
from contracts.execution import RunQueued, StepCompleted, StepEnded

NIL = UUID(int=0)

_BOOK = """insert into usage_event (id, organization_id, workspace_id, run_id, owner_id, node, attempt, agent_id,
  agent_semver, provider, model_name, succeeded, input_tokens, output_tokens, cost_usd_micros, price_version,
  occurred_at, booked_at)
select id, $1, workspace_id, run_id, owner_id, node, attempt, agent_id, agent_semver, provider, model_name, succeeded,
  input_tokens, output_tokens, cost_usd_micros, price_version, occurred_at, $2
from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::integer[], $9::uuid[], $10::text[],
  $11::text[], $12::text[], $13::boolean[], $14::bigint[], $15::bigint[], $16::bigint[], $17::text[],
  $18::timestamptz[])
as attempt (id, workspace_id, run_id, owner_id, node, attempt, agent_id, agent_semver, provider, model_name, succeeded,
  input_tokens, output_tokens, cost_usd_micros, price_version, occurred_at)
on conflict (id) do nothing returning id"""

_ADD_DAYS = """insert into usage_day as d (organization_id, day, agent_id, provider, model_name, owner_id, steps,
  input_tokens, output_tokens, cost_usd_micros)
select $1, * from unnest($2::date[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
  $9::bigint[], $10::bigint[])
on conflict (organization_id, day, agent_id, provider, model_name, owner_id) do update set
  steps = d.steps + excluded.steps, input_tokens = d.input_tokens + excluded.input_tokens,
  output_tokens = d.output_tokens + excluded.output_tokens,
  cost_usd_micros = d.cost_usd_micros + excluded.cost_usd_micros"""

_COUNT_RUNS = """insert into counted_run (organization_id, id) select $1, unnest($2::uuid[])
on conflict do nothing returning id"""


async def book_steps(uow: UnitOfWork, facts: Sequence[StepEnded]) -> int:
    """Book the organization's attempts that are not booked yet, and add them to the sums; returns how many were new."""
    attempts = {fact.step_id: fact for fact in facts}
    if not attempts:
        return 0
    columns = zip(*map(_attempt, attempts.values()), strict=True)
    booked = await uow.fetch(_BOOK, uow.organization_id, uow.now, *map(list, columns))
    fresh = [attempts[row["id"]] for row in booked]
    if fresh:
        await _add_to_days(uow, fresh)
        await _add_to_months(uow, fresh)
    return len(fresh)


async def count_runs(uow: UnitOfWork, runs: Iterable[tuple[RunQueued, datetime]]) -> int:
    """Count the organization's runs in the month each was accepted in; returns how many were new."""
    times = {fact.run_id: time for fact, time in runs}
    counted = await uow.fetch(_COUNT_RUNS, uow.organization_id, list(times))
    months: dict[datetime, int] = defaultdict(int)
    for row in counted:
        months[month_of(times[row["id"]])[0]] += 1
    for month, count in sorted(months.items()):
        await add_to_month(uow, month, executions_count=count)
    return len(counted)


def _attempt(fact: StepEnded) -> tuple[Any, ...]:
    return (
        fact.step_id, fact.workspace_id, fact.run_id, fact.owner_id, fact.node, fact.attempt, fact.agent_id,
        fact.agent_semver, fact.provider, fact.model_name, isinstance(fact, StepCompleted), fact.input_tokens,
        fact.output_tokens, fact.cost_usd_micros, fact.price_version, fact.ended_at,
    )  # fmt: skip


async def _add_to_days(uow: UnitOfWork, facts: Sequence[StepEnded]) -> None:
    sums: dict[tuple[date, UUID, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for fact in facts:
        day = fact.ended_at.astimezone(UTC).date()
        total = sums[day, fact.agent_id or NIL, fact.provider, fact.model_name, fact.owner_id]
        for place, value in enumerate((1, fact.input_tokens, fact.output_tokens, fact.cost_usd_micros)):
            total[place] += value
    rows = [(*key, *total) for key, total in sorted(sums.items())]  # one order of locks, whoever books
    await uow.fetch(_ADD_DAYS, uow.organization_id, *map(list, zip(*rows, strict=True)))


async def _add_to_months(uow: UnitOfWork, facts: Sequence[StepEnded]) -> None:
    months: dict[datetime, int] = defaultdict(int)
    for fact in facts:
        months[month_of(fact.ended_at)[0]] += fact.cost_usd_micros
    for month, cost in sorted(months.items()):
        await add_to_month(uow, month, cost_usd_micros=cost)
