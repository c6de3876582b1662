from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from services.execution.tests.model_stage import World, make_world
from services.execution.tests.stage import Place, Stage, make_stage

from remit_local.testing import Servers


@pytest.fixture(scope="module")
async def stage(
    servers: Servers, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with make_stage(servers.postgres_url, tmp_path_factory.mktemp("execution")) as made:
        yield made


@pytest.fixture(scope="module")
async def shared_world(
    servers: Servers, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Execution with its worker, and servers of models and tools; one at a time, so its users share a group."""
    async with make_world(servers, tmp_path_factory.mktemp("models")) as made:
        yield made


@pytest.fixture
async def place(stage: Stage, anyio_backend: object) -> Place:
    """An organization of this test alone, with a workspace."""
    return await stage.place()
