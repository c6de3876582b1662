from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from libs.spine.tests.testing.parcels import EXAMPLES, Row, add_parcel, build

from chassis.caller import Caller
from chassis.settings import ServiceSettings
from remit_local.testing import Servers
from spine.testing import Stage, staged
from spine.testing.coverage import DoorCoverage
from spine.testing.stage import unstarted
from spine.testing.tables import TableCoverage


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
