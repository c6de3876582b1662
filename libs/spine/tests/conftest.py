from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from libs.spine.tests.stage import Stage, make_stage

from remit_local.testing import Servers


@pytest.fixture
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with make_stage(servers) as made:
        yield made
