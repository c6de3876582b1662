from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from services.billing.tests.factories import NOON, queued, receive_batch, step

from billing.usecases import booking, usage
from billing.usecases.usage import Usage
from chassis.caller import Caller
from chassis.errors import InvalidError
from chassis.ids import new_id
from chassis.permits import Permit
from contracts.execution import StepFailed
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio


async def sums(stage: Stage, organization_id: UUID, group_by: str = "organization", **days: Any) -> Usage:
    period = {"first_day": NOON.date(), "last_day": NOON.date(), **days}
    async with stage.begin(Caller.system(organization_id, "test")) as uow:
        return await usage.get_usage(uow, group_by=group_by, **period)


async def test_a_step_is_booked_once_however_often_it_is_told(stage: Stage) -> None:
    organization_id = await stage.organization()
    told = [step(cost_usd_micros=cost) for cost in (1, 20, 300)]
    await receive_batch(stage, organization_id, *told, told[0])
    await receive_batch(stage, organization_id, *told, step(cost_usd_micros=4000))
    found = await sums(stage, organization_id)
    assert found.total_cost_usd_micros == 4321
    assert found.groups == [
        {"key": str(organization_id), "steps": 4, "input_tokens": 40, "output_tokens": 20, "cost_usd_micros": 4321}
    ]
    ledger = await stage.database.value(
        "select sum(cost_usd_micros) from usage_event where organization_id = $1", organization_id
    )
    assert ledger == 4321


async def test_failed_attempts_cost_what_they_cost(stage: Stage) -> None:
    organization_id = await stage.organization()
    await receive_batch(stage, organization_id, step(StepFailed, cost_usd_micros=9))
    assert (await sums(stage, organization_id)).total_cost_usd_micros == 9
    rows = await stage.database.sql("select succeeded from usage_event where organization_id = $1", organization_id)
    assert [row["succeeded"] for row in rows] == [False]


async def test_a_batch_may_be_larger_than_a_statement_has_parameters(stage: Stage) -> None:
    organization_id, agents = await stage.organization(), [new_id() for _ in range(4100)]
    told = [step(agent_id=agent, cost_usd_micros=3) for agent in agents]
    async with stage.begin(Caller.system(organization_id, "test")) as uow:
        assert await booking.book_steps(uow, told) == 4100
        assert await booking.book_steps(uow, told) == 0
    by_agent = await sums(stage, organization_id, "agent")
    assert len(by_agent.groups) == usage.MAX_GROUPS
    assert by_agent.total_cost_usd_micros == 3 * 4100  # those above the limit included


async def test_sums_by_agent_model_and_day(stage: Stage) -> None:
    organization_id, agent = await stage.organization(), new_id()
    later = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    await receive_batch(
        stage,
        organization_id,
        step(agent_id=agent, model_name="large", cost_usd_micros=100),
        step(agent_id=agent, model_name="tiny", cost_usd_micros=5),
        step(model_name="tiny", cost_usd_micros=1, ended_at=later),
    )
    both = {"last_day": later.date()}

    async def costs(group_by: str) -> list[tuple[str, int]]:
        found = await sums(stage, organization_id, group_by, **both)
        return [(group["key"], group["cost_usd_micros"]) for group in found.groups]

    assert await costs("agent") == [(str(agent), 105), ("", 1)]
    assert await costs("model") == [("large", 100), ("tiny", 6)]
    assert await costs("day") == [("2026-11-22", 105), ("2026-11-23", 1)]
    assert (await sums(stage, organization_id)).total_cost_usd_micros == 105  # the first day alone


async def test_concurrent_bookings_lose_nothing(stage: Stage) -> None:
    organization_id, shared = await stage.organization(), step(cost_usd_micros=1000)
    batches = [[shared, *(step(cost_usd_micros=1) for _ in range(20))] for _ in range(4)]
    await asyncio.gather(*(receive_batch(stage, organization_id, *batch) for batch in batches))
    assert (await sums(stage, organization_id)).total_cost_usd_micros == 1080
    month = await stage.database.value(
        "select cost_usd_micros from usage_record where organization_id = $1", organization_id
    )
    assert month == 1080


async def test_runs_count_once_in_the_month_they_were_accepted_in(stage: Stage) -> None:
    organization_id, october = await stage.organization(), datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    run = queued()
    await receive_batch(stage, organization_id, run, queued(), run)
    await receive_batch(stage, organization_id, run)
    await receive_batch(stage, organization_id, queued(), time=october)
    rows = await stage.database.sql(
        "select period_start, executions_count from usage_record where organization_id = $1 order by 1", organization_id
    )
    assert [(row["period_start"].month, row["executions_count"]) for row in rows] == [(10, 1), (11, 2)]


async def test_the_ledger_of_one_organization_is_nothing_to_another(stage: Stage) -> None:
    ours, theirs = await stage.organization(), await stage.organization()
    await receive_batch(stage, ours, step())
    assert await sums(stage, theirs) == Usage([], 0)


async def test_a_right_to_ones_own_shows_ones_own_sums(stage: Stage) -> None:
    caller = await stage.caller("developer")
    await receive_batch(
        stage, caller.organization_id, step(owner_id=caller.owner_id, cost_usd_micros=2), step(cost_usd_micros=70)
    )
    async with stage.begin(caller, Permit("usage:read", own_only=True, owner_id=caller.owner_id)) as uow:
        found = await usage.get_usage(uow, group_by="organization", first_day=NOON.date(), last_day=NOON.date())
    assert found.total_cost_usd_micros == 2


@pytest.mark.parametrize(
    ("first", "last"), [((2026, 11, 23), (2026, 11, 22)), ((2025, 10, 1), (2026, 11, 22))]
)  # fmt: skip
async def test_periods_have_a_limit(stage: Stage, first: tuple[int, int, int], last: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidError) as refused:
        await sums(stage, await stage.organization(), first_day=date(*first), last_day=date(*last))
    assert refused.value.code == "invalid_period"


async def test_the_ledger_is_written_once(stage: Stage) -> None:
    organization_id = await stage.organization()
    await receive_batch(stage, organization_id, step())
    for change in ("update usage_event set cost_usd_micros = 0", "delete from usage_event", "delete from counted_run"):
        with pytest.raises(Exception, match="permission denied"):
            async with stage.begin(Caller.system(organization_id, "test")) as uow:
                await uow.fetch(change)
