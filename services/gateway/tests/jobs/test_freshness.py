from __future__ import annotations

from typing import Any, cast

import pytest
from services.gateway.tests.factories import EdgeStage

from gateway.jobs.freshness import note_freshness

pytestmark = pytest.mark.anyio


class _Loop:
    def __init__(self, producer: str, attested_at: str) -> None:
        self.state = {"producer": producer, "attested_at": attested_at, "sequence": 1, "problem": ""}


async def _note(stage: EdgeStage, *loops: _Loop) -> Any:
    running = stage.stage.running
    running.loops = cast("list[Any]", list(loops))
    try:
        await note_freshness(running)
    finally:
        running.loops = []
    return await stage.stage.database.value(
        "select attested_at::text from producer_freshness where producer = 'identity'"
    )


async def test_identitys_newest_word_is_kept(stage: EdgeStage) -> None:
    silent, policy = _Loop("identity", ""), _Loop("policy", "2026-11-22T10:00:00+00:00")
    assert await _note(stage, silent, policy) is None
    newer, older = "2026-11-22T10:00:05+00:00", "2026-11-22T10:00:00+00:00"
    first = await _note(stage, _Loop("identity", newer), policy)
    assert first.startswith("2026-11-22")
    assert await _note(stage, _Loop("identity", older)) == first
    await stage.stage.database.sql("delete from producer_freshness")
