from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from services.billing.tests.factories import queued, receive_batch, user

from billing.usecases import months
from chassis.caller import Caller
from chassis.ids import new_id
from contracts.execution import AgentCreated, AgentDeleted
from contracts.gateway import GatewayCreated
from contracts.identity import UserDeleted, UserUpdated
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio


def agent(kind: type[Any] = AgentCreated, agent_id: UUID | None = None, version: int = 1) -> Any:
    return kind(
        agent_id=agent_id or new_id(), workspace_id=new_id(), version=version, name="a", agent_type="llm",
        status="active", risk_level="low",
    )  # fmt: skip


def gateway() -> GatewayCreated:
    return GatewayCreated(
        gateway_id=new_id(), version=1, name="main", gateway_type="http", status="active", is_default=True
    )


async def counts(stage: Stage, organization_id: UUID) -> tuple[int, int, int]:
    rows = await stage.database.sql("select * from usage_record where organization_id = $1", organization_id)
    assert len(rows) == 1
    return rows[0]["users_count"], rows[0]["agents_count"], rows[0]["gateways_count"]


async def test_what_exists_is_counted(stage: Stage) -> None:
    organization_id = await stage.organization()
    gone = agent()
    await stage.receive(organization_id, user(), user(), gone, agent(), gateway())
    await stage.receive(organization_id, agent(AgentDeleted, gone.agent_id, version=2))
    assert await counts(stage, organization_id) == (2, 1, 1)


async def test_a_fact_that_comes_again_or_late_changes_nothing(stage: Stage) -> None:
    organization_id, one = await stage.organization(), user()
    await stage.receive(organization_id, one, one)
    await stage.receive(organization_id, user(3, UserDeleted, one.user_id), user(2, UserUpdated, one.user_id), one)
    assert await counts(stage, organization_id) == (0, 0, 0)


async def test_services_that_tell_at_once_do_not_overwrite_each_other(stage: Stage) -> None:
    organization_id = await stage.organization()
    await asyncio.gather(
        stage.receive(organization_id, *(user() for _ in range(8))),
        stage.receive(organization_id, *(agent() for _ in range(8))),
        stage.receive(organization_id, *(gateway() for _ in range(8))),
        *(receive_batch(stage, organization_id, queued()) for _ in range(4)),
    )
    # The runs were accepted in November of the factories; the things count in the month of today.
    rows = await stage.database.sql("select * from usage_record where organization_id = $1", organization_id)
    newest = max(rows, key=lambda row: row["period_start"])
    assert (newest["users_count"], newest["agents_count"], newest["gateways_count"]) == (8, 8, 8)
    assert sum(row["executions_count"] for row in rows) == 4


async def test_a_new_month_begins_with_what_exists(stage: Stage) -> None:
    organization_id = await stage.organization()
    await stage.receive(organization_id, user(), agent())
    await stage.database.sql(
        "update usage_record set period_start = '2020-01-01' where organization_id = $1", organization_id
    )
    await stage.receive(organization_id, user())
    async with stage.begin(Caller.system(organization_id, "test")) as uow:
        page = await months.list_usage_records(uow, months.USAGE_RECORDS.all_of())
    assert [(row["users_count"], row["agents_count"]) for row in page.rows] == [(2, 1), (1, 1)]
