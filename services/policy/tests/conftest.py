from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from services.policy.tests.stage import Stage, make_stage

from chassis.caller import Caller
from remit_local.testing import Servers


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with make_stage(servers.postgres_url) as made:
        yield made


@pytest.fixture
async def owner(stage: Stage, anyio_backend: object) -> Caller:
    """The owner of an organization of this test alone."""
    return await stage.caller()
