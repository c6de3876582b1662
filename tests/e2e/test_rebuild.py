"""Every projection comes back from nothing: by reading its stream from the start, or by asking the owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from tests.e2e.test_fault_commands import asking
from tests.town import Town, until

from chassis.ids import new_id
from contracts.catalog import SERVICES
from contracts.chassis import RestateRows, RowsRestated


@dataclass(frozen=True)
class Projection:
    """A table that holds what other services own: which columns, and of which nouns they are told."""

    service: str
    table: str
    columns: str
    owners: tuple[tuple[str, str], ...]
    living: str = "true"
    """Which rows the owner still has: of what it has deleted, only the stream tells."""

    @property
    def name(self) -> str:
        return f"{self.service}.{self.table}"


_KEYS = "id, organization_id, user_id, key_prefix, secret_sha256, role, scopes, is_active, expires_at, version"
_WORKSPACES = "id, organization_id, name, environment_type, status, max_agents, retention_days, version"
_RULES = "organization_id, status, status_version, bundle_version, bundle_source"
PROJECTIONS = (
    Projection("execution", "workspace", _WORKSPACES, (("identity", "workspace"),), "status <> 'deleted'"),
    Projection("execution", "subscription", "organization_id, version", (("billing", "subscription"),)),
    Projection("gateway", "api_key", _KEYS, (("identity", "api_key"),)),
    Projection("gateway", "known_user", "id, organization_id, role, status, version", (("identity", "user"),)),
    *(
        Projection(service, "organization_rules", _RULES, (("identity", "organization"), ("policy", "bundle")))
        for service in SERVICES
    ),
)
POLICY = """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: never, effect: deny, actions: ["legal_hold:release"], when: resource.attr.name == 'never'}
"""


async def _rows(town: Town, projection: Projection) -> list[tuple[Any, ...]]:
    statement = f"select {projection.columns} from {projection.table} where {projection.living} order by 1, 2"
    return [tuple(row) for row in await town.platform.query(projection.service, statement)]


async def _forget(town: Town, projection: Projection) -> None:
    # As a restore of half a database would leave it: whoever refers to the rows keeps referring.
    statement = f"set session_replication_role = replica; delete from {projection.table}"
    await town.execute(projection.service, statement)


async def _back(town: Town, projection: Projection, wanted: list[tuple[Any, ...]]) -> None:
    async def is_back() -> bool:
        return await _rows(town, projection) == wanted

    await until(is_back, f"{projection.name} is what it was")


async def _with_a_bundle(town: Town) -> None:
    """The north has rules of its own, and every service knows them."""
    policy = {"name": f"p {new_id()}", "policy_type": "abac", "rules_yaml": POLICY}
    await town.traffic.send("POST", "/v1/policies", town.north.key, policy)
    known = "select bundle_version from organization_rules where organization_id = $1 and bundle_source <> ''"

    async def is_everywhere() -> bool:
        owner = "select max(revision) from policy_bundle where organization_id = $1"
        wanted = (await town.platform.query("policy", owner, UUID(town.north.id)))[0][0]
        found = [await town.platform.query(service, known, UUID(town.north.id)) for service in SERVICES]
        return all(rows and rows[0][0] == wanted for rows in found)

    await until(is_everywhere, "the bundle is known to every service")


@pytest.mark.anyio
@pytest.mark.seconds(150)
@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
async def test_the_owner_says_how_things_are(town: Town, projection: Projection) -> None:
    """As beyond the streams' retention, where the facts that made the rows are gone."""
    await _with_a_bundle(town)
    before = await _rows(town, projection)
    assert before
    await _forget(town, projection)
    async with asking(town, projection.service) as asker:
        for owner, noun in projection.owners:
            reply = await asker.ask(RestateRows(noun=noun), owner, RowsRestated, timeout=20)
            assert not reply.refused
            assert reply.count >= 1
    await _back(town, projection, before)


@pytest.mark.anyio
@pytest.mark.seconds(150)
@pytest.mark.parametrize("projection", PROJECTIONS[:4], ids=lambda projection: projection.name)
async def test_the_stream_read_from_its_start_says_it_again(town: Town, projection: Projection) -> None:
    (owner, _), *_ = projection.owners
    before = await _rows(town, projection)
    await _forget(town, projection)
    forgotten = "delete from fact_offset where stream = $1"
    await town.platform.query(projection.service, forgotten, f"facts.{owner}")
    # The next fact finds the offset gone: the loop begins anew, from nothing.
    async with asking(town, "audit") as asker:
        await asker.ask(
            RestateRows(noun=projection.owners[0][1], organization_id=UUID(town.south.id)), owner, RowsRestated
        )
    await _back(town, projection, before)
    assert (await town.run(town.north))["status"] == "completed"
