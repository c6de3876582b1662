from __future__ import annotations

import asyncio
import json
import sys

import pytest
from services.identity.tests.stage import Stage

from spine.testing.stage import NOWHERE_AMQP, NOWHERE_STREAM

pytestmark = pytest.mark.anyio


async def bootstrapped(stage: Stage) -> dict[str, str | None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "identity", "bootstrap", "ops@acme.test", stdout=asyncio.subprocess.PIPE,
        env={
            "REMIT_IDENTITY_DATABASE_URL": stage.database.url(), "REMIT_AMQP_URL": NOWHERE_AMQP,
            "REMIT_STREAM_URL": NOWHERE_STREAM,
        },
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    answer: dict[str, str | None] = json.loads(told)
    return answer


async def test_bootstrap_shows_the_key_once_and_changes_nothing_more(stage: Stage) -> None:
    first = await bootstrapped(stage)
    assert str(first["api_key"]).startswith("rmt_")
    told = len(await stage.facts())
    assert await bootstrapped(stage) == {"organization_id": first["organization_id"], "api_key": None}
    assert len(await stage.facts()) == told
    assert await stage.database.value("select email from app_user") == "ops@acme.test"
