"""What every service must pass, for audit."""

from __future__ import annotations

from typing import ClassVar

from services.audit.tests.factories import Producer, completed, store

from audit.main import build
from audit.settings import Settings
from audit.tables import Row
from chassis.caller import Caller
from spine.testing.coverage import DoorCoverage
from spine.testing.examples import Call, Examples
from spine.testing.stage import Stage, unstarted
from spine.testing.tables import TableCoverage

EXAMPLES = Examples()


@EXAMPLES.of("get_entry")
async def _entry(stage: Stage, caller: Caller) -> Call:
    fact = Producer().raw(caller.organization_id, completed())
    await store(stage, [fact])
    return Call({"entry_id": fact.id})


class TestDoors(DoorCoverage):
    service = unstarted(build, Settings, "audit")
    examples: ClassVar[Examples] = EXAMPLES


class TestTables(TableCoverage):
    metadata = Row.metadata

    async def fill(self, stage: Stage, caller: Caller) -> None:
        await _entry(stage, caller)
