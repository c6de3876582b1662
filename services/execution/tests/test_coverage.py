"""What every service must pass, for execution."""

from __future__ import annotations

from typing import ClassVar

from services.execution.tests.examples import (
    EXAMPLES,
    a_credential,
    a_price,
    a_run,
    an_evaluated_agent,
    an_orchestration,
    made,
)

import spine.testing.stage
from chassis.caller import Caller
from execution.main import build
from execution.settings import Settings
from execution.tables import Row
from spine.testing.coverage import DoorCoverage
from spine.testing.examples import Examples
from spine.testing.stage import unstarted
from spine.testing.tables import TableCoverage


class TestDoors(DoorCoverage):
    service = unstarted(build, Settings, "execution")
    examples: ClassVar[Examples] = EXAMPLES


class TestTables(TableCoverage):
    metadata = Row.metadata

    async def fill(self, stage: spine.testing.stage.Stage, caller: Caller) -> None:
        await an_orchestration(stage, caller)
        await a_run(stage, caller)
        await a_credential(stage, caller)
        await a_price(stage, caller)
        agent = await an_evaluated_agent(stage, caller)
        await made(stage, caller, f"/v1/agents/{agent['id']}/versions/current/evaluate", {})
        await made(stage, caller, "/v1/allowed-hosts", {"host": "agents.example.com"})
