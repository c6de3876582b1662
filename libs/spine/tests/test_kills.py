from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

import pytest
from libs.spine.tests.stage import Stage, happened, until

from chassis.ids import new_id

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
KILLS = 2


async def act(stage: Stage, role: str) -> asyncio.subprocess.Process:
    servers = json.dumps(dataclasses.asdict(stage.servers))
    arguments = ("-m", "libs.spine.tests.actor", role, servers, stage.producer, stage.consumer)
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)


async def at_work(stage: Stage) -> bool:
    """Some of what was emitted has arrived: whoever is killed now may be in the middle of something."""
    return await stage.value(stage.consumer, "select count(*) from seen") > 0


@pytest.mark.seconds(200)
async def test_killing_relay_and_consumer_loses_and_doubles_nothing(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id(), new_id()]
    units = stage.units(stage.producer)
    actors = {name: await act(stage, name.rstrip("12")) for name in ("relay1", "relay2", "consumer1", "consumer2")}
    try:
        number = 0
        for _ in range(KILLS):
            for name in ("relay1", "consumer1", "relay2", "consumer2"):
                await stage.emit(fact, range(number, number + 40), organizations, per=4, units=units)
                number += 40
                await until(lambda: at_work(stage), seconds=60)
                actors[name].kill()
                await actors[name].wait()
                actors[name] = await act(stage, name.rstrip("12"))

        async def all_there() -> bool:
            return await stage.value(stage.consumer, "select count(*) from seen") >= number

        await until(all_there, seconds=120)
    finally:
        for process in actors.values():
            process.kill()
            await process.wait()
    log = "select (convert_from(body, 'utf8')::json->'data'->>'number')::int as number from fact_log order by sequence"
    assert await stage.numbers() == [row["number"] for row in await stage.sql(stage.producer, log)]
    assert sorted(await stage.numbers()) == list(range(number))
