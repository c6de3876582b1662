"""Subscriptions here are a projection of billing's: how many agents and runs an organization may have.

Billing owns the number; the count is owned here, in the transaction that inserts the row, so that it is exact.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, select, text

from chassis.errors import LimitExceededError
from chassis.uow import UnitOfWork
from contracts.billing import SubscriptionState
from execution.tables.agents import Agent
from execution.tables.subscriptions import Subscription
from execution.tables.workspaces import Workspace
from spine.facts import project

FREE_AGENTS = 50
FREE_RUNS_PER_MONTH = 100_000
"""What holds until the organization's subscription is known here: the free tier."""

KEPT = {"plan_id", "status", "current_period_start", "current_period_end", "max_agents", "max_executions_per_month"}

# Plain: every start of a run pays for it.
_COUNT_RUN = """with plan as (
  select coalesce(
    (select max_executions_per_month from subscription where status <> 'cancelled' limit 1), $3::integer) as most
)
insert into run_month as counted (organization_id, month, runs)
select $1::uuid, date_trunc('month', $2::timestamptz at time zone 'utc')::date, 1 from plan where most > 0
on conflict (organization_id, month) do update set runs = counted.runs + 1
where counted.runs < (select most from plan) returning runs"""
_COUNT_RUNS = text("""with plan as (
  select coalesce(
    (select max_executions_per_month from subscription where status <> 'cancelled' limit 1), :free) as most
), held as (
  select organization_id, month, runs from run_month where organization_id = :organization_id
    and month = date_trunc('month', cast(:now as timestamptz) at time zone 'utc')::date for update
)
update run_month counted set runs = least(held.runs + :wanted, greatest(held.runs, plan.most)) from held, plan
where counted.organization_id = held.organization_id and counted.month = held.month
returning counted.runs - held.runs""")
_BEGIN_MONTH = text("""insert into run_month (organization_id, month, runs)
values (:organization_id, date_trunc('month', cast(:now as timestamptz) at time zone 'utc')::date, 0)
on conflict do nothing""")
# One organization's agents are counted by one transaction at a time: there are few, and the number must hold.
_COUNT_ALONE = text("select pg_advisory_xact_lock(hashtextextended('agents:' || cast(:organization_id as text), 0))")


class Allowance(NamedTuple):
    """What an organization may have."""

    agents: int
    runs_per_month: int


async def project_subscription(uow: UnitOfWork, fact: SubscriptionState) -> None:
    """Remember a subscription as billing has it now."""
    values = fact.model_dump(include=KEPT)
    stamps = {"organization_id": uow.organization_id, "created_at": uow.now, "updated_at": uow.now}
    await project(uow, Subscription, {"id": fact.subscription_id}, fact.version, {**values, **stamps})


async def read_allowance(uow: UnitOfWork) -> Allowance:
    """What the organization may have; the free tier's while nobody has said."""
    found: Subscription | None = await uow.first(select(Subscription).limit(1))
    if found is None or found.status == "cancelled":
        return Allowance(FREE_AGENTS, FREE_RUNS_PER_MONTH)
    return Allowance(found.max_agents, found.max_executions_per_month)


async def count_agent(uow: UnitOfWork, workspace: Workspace) -> None:
    """Make room for one more agent; LimitExceededError at the organization's or the workspace's number."""
    await uow.execute(_COUNT_ALONE, {"organization_id": str(uow.organization_id)})
    most = (await read_allowance(uow)).agents
    living = select(func.count()).where(Agent.deleted_at.is_(None)).select_from(Agent)
    if await uow.first(living) >= most:
        raise LimitExceededError(f"Your plan allows {most} agents.", code="max_agents")
    if await uow.first(living.where(Agent.workspace_id == workspace.id)) >= workspace.max_agents:
        detail = f"This workspace allows {workspace.max_agents} agents."
        raise LimitExceededError(detail, code="max_agents_of_workspace")


async def count_run(uow: UnitOfWork) -> None:
    """Count one more run of this month (UTC); LimitExceededError at the plan's number.

    The last statement before commit: the counter's row is held by one transaction at a time.
    """
    if not await uow.fetch(_COUNT_RUN, uow.organization_id, uow.now, FREE_RUNS_PER_MONTH):
        most = (await read_allowance(uow)).runs_per_month
        raise LimitExceededError(f"Your plan allows {most} runs a month.", code="max_executions_per_month")


async def count_runs(uow: UnitOfWork, wanted: int) -> int:
    """Count so many more runs of this month (UTC), or as many as the plan still allows; returns how many."""
    values = {"organization_id": uow.organization_id, "now": uow.now}
    await uow.execute(_BEGIN_MONTH, values)
    rows = await uow.execute(_COUNT_RUNS, {**values, "wanted": wanted, "free": FREE_RUNS_PER_MONTH})
    return int(rows[0][0])
