from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from libs.chassis.tests.testing.parcels import EXAMPLES, Row, add_parcel, build

from chassis.caller import Caller
from chassis.settings import ServiceSettings
from chassis.testing import Stage, staged
from chassis.testing.coverage import DoorCoverage
from chassis.testing.stage import unstarted
from chassis.testing.tables import TableCoverage
from remit_local.testing import Servers


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, ServiceSettings, "billing", servers.postgres_url) as made:
        yield made


class TestDoors(DoorCoverage):
    service = unstarted(build, ServiceSettings, "billing")
    examples = EXAMPLES


class TestTables(TableCoverage):
    metadata = Row.metadata

    async def fill(self, stage: Stage, caller: Caller) -> None:
        async with stage.begin(caller) as uow:
            await add_parcel(uow, "brick")
