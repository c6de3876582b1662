"""What every service must pass, for policy."""

from __future__ import annotations

from typing import ClassVar

from services.policy.tests.examples import EXAMPLES
from services.policy.tests.stage import Stage, decided

import spine.testing.stage
from chassis.caller import Caller
from chassis.ids import new_id
from policy.main import build
from policy.settings import Settings
from policy.tables import Row
from policy.usecases import policies
from spine.testing.coverage import DoorCoverage
from spine.testing.examples import Examples
from spine.testing.stage import unstarted
from spine.testing.tables import TableCoverage


class TestDoors(DoorCoverage):
    service = unstarted(build, Settings, "policy")
    examples: ClassVar[Examples] = EXAMPLES


class TestTables(TableCoverage):
    metadata = Row.metadata

    async def fill(self, stage: spine.testing.stage.Stage, caller: Caller) -> None:
        assert isinstance(stage, Stage)
        policy = await stage.policy(caller)
        async with stage.begin(caller) as uow:
            await policies.assign_policy(uow, policy.id, assignee_type="team", assignee_id=new_id())
        await stage.record(caller.organization_id, [decided()])
