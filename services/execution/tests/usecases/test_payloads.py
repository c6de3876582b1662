"""Payloads go with their run, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from services.execution.tests.engine_stage import EngineStage, make_engine_stage

from chassis.clock import utc_now
from chassis.errors import UnavailableError
from chassis.ids import new_id
from chassis.objects import NoObjects, open_objects
from chassis.sealing import Keyring, write_keyring
from execution.usecases.payloads import sweep_payloads
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        yield made


def made_at(moment: datetime) -> UUID:
    """An id as it was made then."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | new_id().int & (1 << 80) - 1)


async def test_what_belongs_to_no_run_is_removed_once_it_is_a_day_old(engine: EngineStage, tmp_path: Path) -> None:
    objects = open_objects(tmp_path / "objects", Keyring.read(write_keyring(tmp_path / "keyring.json")))
    place, now = await engine.place(), utc_now()
    there, gone, young = made_at(now - timedelta(days=2)), made_at(now - timedelta(days=2)), made_at(now)
    await engine.queue_run(place, await engine.agent(place, "one"), id=there)
    keys = {run_id: await objects.put(place.organization_id, run_id, b"content") for run_id in (there, gone, young)}
    (tmp_path / "objects" / "notes" / "of somebody").mkdir(parents=True)
    assert await sweep_payloads(engine.addresses, objects) == 1
    assert await objects.get(keys[there]) == await objects.get(keys[young]) == b"content"
    with pytest.raises(UnavailableError):
        await objects.get(keys[gone])
    assert await sweep_payloads(engine.addresses, objects) == 0
    assert (tmp_path / "objects" / "notes" / "of somebody").exists()


async def test_without_a_store_there_is_nothing_to_do(engine: EngineStage) -> None:
    assert await sweep_payloads(engine.addresses, NoObjects()) == 0
