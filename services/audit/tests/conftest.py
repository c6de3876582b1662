from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from audit.main import build
from audit.settings import Settings
from remit_local.testing import Servers
from spine.testing.stage import Stage, staged


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, Settings, "audit", servers.postgres_url, extra_roles=["ingest"]) as made:
        yield made
