from __future__ import annotations

import pytest
from services.gateway.tests.factories import EdgeStage

from chassis.caller import Caller
from chassis.ids import new_id
from contracts.api_keys import make_key
from contracts.identity import ApiKeyCreated, UserCreated
from gateway.main import build
from gateway.settings import Settings
from gateway.tables import Row, callers, gateways
from gateway.usecases.gateways import create_default_gateway
from spine.testing.coverage import DoorCoverage
from spine.testing.examples import Call, Examples
from spine.testing.stage import Stage, unstarted
from spine.testing.tables import TableCoverage

EXAMPLES = Examples()


@pytest.fixture(scope="module")
def stage(stage: EdgeStage) -> Stage:
    return stage.stage


@EXAMPLES.of("get_gateway", "update_gateway")
async def _gateway(stage: Stage, caller: Caller) -> Call:
    async with stage.begin(caller) as uow:
        made = await create_default_gateway(uow)
    return Call({"gateway_id": made.id}, {"name": f"renamed {new_id()}"}, headers={"If-Match": f'"{made.version}"'})


class TestDoors(DoorCoverage):
    service = unstarted(build, Settings, "gateway")
    examples = EXAMPLES


class TestTables(TableCoverage):
    metadata = Row.metadata
    assert callers.ApiKey.metadata is gateways.Gateway.metadata is metadata

    async def fill(self, stage: Stage, caller: Caller) -> None:
        await _gateway(stage, caller)
        _, parsed = make_key()
        key = ApiKeyCreated(
            api_key_id=new_id(), version=1, name="k", key_prefix=parsed.key_prefix, secret_sha256=parsed.secret_sha256,
            role="viewer", scopes=[], is_active=True,
        )  # fmt: skip
        user = UserCreated(user_id=new_id(), version=1, role="viewer", status="active")
        await stage.receive(caller.organization_id, key, user)
