from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from libs.resources.tests.crates import build

from chassis.settings import ServiceSettings
from remit_local.testing import Servers
from spine.testing import Stage, staged


@pytest.fixture(scope="module")
async def stage(servers: Servers, anyio_backend: object) -> AsyncIterator[Stage]:
    async with staged(build, ServiceSettings, "billing", servers.postgres_url) as made:
        yield made
