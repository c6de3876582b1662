"""What every service must pass, for billing."""

from __future__ import annotations

from typing import ClassVar

from services.billing.tests.factories import queued, receive_batch, step, subscribed, user

from billing.main import build
from billing.settings import Settings
from billing.tables import Row
from chassis.caller import Caller
from spine.testing.coverage import DoorCoverage
from spine.testing.examples import Call, Examples
from spine.testing.stage import Stage, unstarted
from spine.testing.tables import TableCoverage

EXAMPLES = Examples()


@EXAMPLES.of("get_subscription_of")
async def _read(stage: Stage, caller: Caller) -> Call:
    return Call({"organization_id": await subscribed(stage)})


@EXAMPLES.of("change_plan")
async def _change(stage: Stage, caller: Caller) -> Call:
    return Call({"organization_id": await subscribed(stage)}, {"plan_id": "pro"}, headers={"if-match": '"1"'})


@EXAMPLES.of("get_subscription")
async def _own(stage: Stage, caller: Caller) -> Call:
    await subscribed(stage, caller)
    return Call()


class TestDoors(DoorCoverage):
    service = unstarted(build, Settings, "billing")
    examples: ClassVar[Examples] = EXAMPLES


class TestTables(TableCoverage):
    metadata = Row.metadata

    async def fill(self, stage: Stage, caller: Caller) -> None:
        await subscribed(stage, caller)
        await stage.receive(caller.organization_id, user())
        await receive_batch(stage, caller.organization_id, step(), queued())
