from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from services.gateway.tests.factories import EdgeStage

from gateway.main import build
from gateway.settings import Settings
from remit_local.testing import Servers
from spine.testing.stage import staged


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[EdgeStage]:
    async with staged(build, Settings, "gateway", servers.postgres_url, cors_origins="https://console.example") as made:
        yield EdgeStage.of(made)
