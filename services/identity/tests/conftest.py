from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from services.identity.tests.stage import Home, Stage, make_stage

from remit_local.testing import Servers


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with make_stage(servers.postgres_url) as made:
        yield made


@pytest.fixture
async def home(stage: Stage, anyio_backend: object) -> Home:
    """An organization of this test alone."""
    return await stage.home()
