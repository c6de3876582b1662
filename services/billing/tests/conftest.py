from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from billing.main import build
from billing.settings import Settings
from remit_local.testing import Servers
from spine.testing.stage import Stage, staged


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, Settings, "billing", servers.postgres_url) as made:
        yield made
