"""A fact that cannot be applied is put aside, counted and replayable, and its stream goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from tests.town import Town, until

from chassis.db import create_engine
from chassis.ids import new_id
from chassis.uow import Units
from contracts.chassis import FactsResent
from execution.main import build
from execution.settings import Settings
from spine.facts import FactLoop
from spine.stream import StreamPlace

_INJECT = "insert into outbox (id, type, organization_id, body) values ($1, $2, $3, $4)"
_PARKED = """select stream, type, error, resolved_at is not null as is_resolved from parked_fact
where organization_id = $1 order by parked_at desc limit 1"""
_ENTRIES = "select count(*) from entry where organization_id = $1"


@asynccontextmanager
async def _consumer(town: Town) -> AsyncIterator[FactLoop]:
    """Execution's loop over identity's facts, as a process of the operator would put it together to replay."""
    settings = Settings.load("execution", town.platform.installation.environment("execution", own_port=False))
    service = build(settings)
    url = settings.database_url.get_secret_value()
    engine = create_engine(url, name="replay", pool_size=1, statement_timeout=5, lock_timeout=3)

    async def ask(producer: str, first: int, last: int) -> FactsResent:
        raise AssertionError("a replay asks nobody")

    place = StreamPlace.parse(settings.stream_url.get_secret_value())
    try:
        yield FactLoop("execution", "identity", service.consumers, units=Units(engine, settings), place=place, ask=ask)
    finally:
        await engine.dispose()


async def _last_parked(town: Town, service: str, organization_id: str) -> Any:
    rows = await town.platform.query(service, _PARKED, UUID(organization_id))
    return rows[0] if rows else None


async def _is_known(town: Town, workspace_id: str) -> bool:
    found = await town.platform.query("execution", "select 1 from workspace where id = $1", UUID(workspace_id))
    return bool(found)


@pytest.mark.anyio
@pytest.mark.seconds(150)
async def test_a_fact_that_cannot_be_decoded_is_parked_and_the_stream_goes_on(town: Town) -> None:
    before = await town.counted("remit_facts_parked_total", service="execution", producer="identity")
    kind, body = "identity.workspace.updated.v1", b'{"id": "half a fa'
    await town.platform.query("identity", _INJECT, new_id(), kind, UUID(town.north.id), body)
    after = await town.workspace(town.north, f"after {new_id().hex[-8:]}")

    async def goes_on() -> bool:
        return await _is_known(town, after)

    await until(goes_on, "the fact after the broken one is applied")
    parked = await _last_parked(town, "execution", town.north.id)
    assert (parked["stream"], parked["type"], parked["is_resolved"]) == ("facts.identity", kind, False)
    assert "Error" in parked["error"]
    assert await town.counted("remit_facts_parked_total", service="execution", producer="identity") == before + 1
    # What cannot be decoded cannot be replayed either: it stays parked, and says so again.
    async with _consumer(town) as loop:
        with pytest.raises(ValueError):
            await loop.replay(UUID(town.north.id))
    assert not (await _last_parked(town, "execution", town.north.id))["is_resolved"]


@pytest.mark.anyio
@pytest.mark.seconds(150)
async def test_audit_keeps_its_count_past_a_fact_that_cannot_be_decoded(town: Town) -> None:
    organization_id = UUID(town.north.id)
    broken = (new_id(), "identity.workspace.updated.v1", organization_id, b"\x00\xff not JSON")
    await town.platform.query("identity", _INJECT, *broken)
    after = await town.workspace(town.north, f"after {new_id().hex[-8:]}")

    async def is_told() -> bool:
        path = "/v1/audit-entries?event_type=identity.workspace.created.v1&limit=200"
        reply = await town.ask("GET", path, town.north.key)
        return any(after in str(entry) for entry in reply.json["items"])

    await until(is_told, "audit tells of what came after the broken fact")
    entries = (await town.platform.query("audit", _ENTRIES, organization_id))[0][0]
    parked = "select count(*) from parked_fact where organization_id = $1 and resolved_at is null"
    aside = (await town.platform.query("audit", parked, organization_id))[0][0]
    facts = 0
    for service in ("identity", "billing", "policy", "gateway", "execution", "audit"):
        logged = "select count(*) from fact_log where organization_id = $1"
        facts += (await town.platform.query(service, logged, organization_id))[0][0]
    assert aside >= 1
    assert entries <= facts


@pytest.mark.anyio
@pytest.mark.seconds(150)
async def test_a_parked_fact_is_applied_by_a_replay_once_its_cause_is_gone(town: Town) -> None:
    name = f"refused {new_id().hex[-8:]}"
    forbid = f"alter table workspace add constraint no_such_name check (name <> '{name}') not valid"
    await town.platform.query("execution", forbid)
    try:
        refused = await town.workspace(town.south, name)
        after = await town.workspace(town.south, f"after {name}")

        async def goes_on() -> bool:
            return await _is_known(town, after)

        await until(goes_on, "the fact after the refused one is applied")
    finally:
        await town.platform.query("execution", "alter table workspace drop constraint no_such_name")
    assert not await _is_known(town, refused)
    parked = await _last_parked(town, "execution", town.south.id)
    assert (parked["type"], parked["is_resolved"]) == ("identity.workspace.created.v1", False)
    assert "no_such_name" in parked["error"]
    async with _consumer(town) as loop:
        assert await loop.replay(UUID(town.south.id)) == 1
        assert await loop.replay(UUID(town.south.id)) == 0
    assert await _is_known(town, refused)
    agent = {"name": f"a {name}", "config_yaml": "apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}\n"}
    made = await town.ask("POST", "/v1/agents", town.south.key, {**agent, "workspace": refused})
    assert made.status == 201, made.body
