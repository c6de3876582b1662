from __future__ import annotations

import asyncio

import pytest
from libs.chassis.tests.stage import Stage, happened, recorder, until

from chassis.ids import new_id

pytestmark = pytest.mark.anyio


async def test_facts_of_many_organizations_arrive_once_in_order(stage: Stage) -> None:
    fact, other = happened(stage.producer), happened(stage.producer, "ignored")
    organizations = [new_id() for _ in range(3)]
    await stage.emit(fact, range(100), organizations)
    relay = stage.relay()
    stage.start(relay.run())
    stage.start(stage.loop(recorder(fact)).run())
    await stage.emit(other, range(10), organizations)
    await stage.emit(fact, range(100, 200), organizations, per=1, units=stage.units(stage.producer, wake=relay.wake))

    async def all_there() -> bool:
        return await stage.value(stage.consumer, "select count(*) from seen") == 200

    await until(all_there)
    assert await stage.numbers() == list(range(200))
    log = await stage.sql(
        stage.producer, "select sequence, organization_id, organization_sequence, epoch from fact_log order by sequence"
    )
    assert [row["sequence"] for row in log] == list(range(1, 211))
    for organization_id in organizations:
        own = [row["organization_sequence"] for row in log if row["organization_id"] == organization_id]
        assert own == list(range(1, len(own) + 1))
    wrong = "select count(*) from seen s where organization_id <> all ($1) or caused_by is null"
    assert await stage.value(stage.consumer, wrong, organizations) == 0
    await asyncio.sleep(0)
