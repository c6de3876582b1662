from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from services.execution.tests.factories import make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import start as start_run
from services.execution.tests.usecases.test_schedules import make as make_schedule

from chassis.errors import LimitExceededError
from chassis.ids import new_id
from contracts.billing import SubscriptionCreated, SubscriptionUpdated
from contracts.identity import (
    OrganizationDeleted,
    UserSuspended,
    UserUpdated,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceRestated,
    WorkspaceUpdated,
)

pytestmark = pytest.mark.anyio


def workspace(place: Place, version: int, **fields: Any) -> dict[str, Any]:
    return {
        "workspace_id": place.workspace_id, "version": version, "name": f"v{version}",
        "environment_type": "production", "max_agents": 7, "max_concurrent_executions": 3, "retention_days": 365,
        **fields,
    }  # fmt: skip


async def test_a_workspace_follows_identity_and_never_goes_back(stage: Stage) -> None:
    place = Place(await stage.organization(), new_id())

    async def row() -> tuple[Any, ...]:
        found = await stage.sql(
            "select name, status, version, max_agents from workspace where id = $1", place.workspace_id
        )
        return tuple(found[0])

    await stage.receive(place.organization_id, WorkspaceCreated(**workspace(place, 1)))
    assert await row() == ("v1", "active", 1, 7)
    await stage.receive(place.organization_id, WorkspaceUpdated(**workspace(place, 3, max_agents=9)))
    await stage.receive(place.organization_id, WorkspaceUpdated(**workspace(place, 2)))
    assert await row() == ("v3", "active", 3, 9)
    await stage.receive(place.organization_id, WorkspaceRestated(**workspace(place, 4, status="draining")))
    assert await row() == ("v4", "draining", 4, 7)
    await stage.receive(place.organization_id, WorkspaceDeleted(**workspace(place, 5)))
    assert await row() == ("v5", "deleted", 5, 7)
    await stage.receive(place.organization_id, WorkspaceRestated(**workspace(place, 5)))
    assert (await row())[1] == "deleted"


async def test_a_workspace_says_who_approves_what_comes_into_it(stage: Stage) -> None:
    place = Place(await stage.organization(), new_id())

    async def named() -> Any:
        rows = await stage.sql("select required_approvers from workspace where id = $1", place.workspace_id)
        return orjson.loads(rows[0][0])

    await stage.receive(place.organization_id, WorkspaceCreated(**workspace(place, 1)))
    assert await named() == []
    await stage.receive(place.organization_id, WorkspaceUpdated(**workspace(place, 2, required_approvers=["operator"])))
    assert await named() == ["operator"]


async def test_a_projection_is_rebuilt_by_restatement(stage: Stage) -> None:
    place = Place(await stage.organization(), new_id())
    await stage.receive(place.organization_id, WorkspaceRestated(**workspace(place, 9)))
    assert (await make_agent(stage, place)).workspace_id == place.workspace_id


async def test_a_subscription_is_what_billing_says(stage: Stage, place: Place) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    fields: dict[str, Any] = {
        "subscription_id": new_id(), "version": 1, "plan_id": "free", "status": "active", "current_period_start": now,
        "current_period_end": now, "max_users": 1, "max_agents": 1, "max_executions_per_month": 1,
        "max_storage_gb": 1, "max_gateways": 1,
    }  # fmt: skip
    await stage.receive(place.organization_id, SubscriptionCreated(**fields))
    await make_agent(stage, place, "one")
    with pytest.raises(LimitExceededError):
        await make_agent(stage, place, "two")
    await stage.receive(place.organization_id, SubscriptionUpdated(**{**fields, "version": 2, "max_agents": 2}))
    await make_agent(stage, place, "two")


async def test_schedules_follow_whoever_made_them(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    staying, leaving = place.caller("developer"), place.caller("developer")
    made = {caller.owner_id: await make_schedule(stage, caller, name=caller.owner_id) for caller in (staying, leaving)}

    async def row(owner_id: str) -> Any:
        return (await stage.sql("select caller, pause_reason from schedule where id = $1", made[owner_id].id))[0]

    viewer = UserUpdated(user_id=staying.user_id or new_id(), version=2, role="viewer", status="active")
    await stage.receive(place.organization_id, viewer)
    gone = UserSuspended(user_id=leaving.user_id or new_id(), version=2, role="developer", status="suspended")
    await stage.receive(place.organization_id, gone)
    assert orjson.loads((await row(staying.owner_id))["caller"])["roles"] == ["viewer"]
    assert (await row(staying.owner_id))["pause_reason"] == ""
    assert (await row(leaving.owner_id))["pause_reason"] == "owner_gone"


async def test_what_is_queued_in_a_deleted_workspace_ends(stage: Stage) -> None:
    place = await stage.place()
    await make_agent(stage, place, "writer")
    run = await start_run(stage, place.caller())
    for _ in range(2):  # also where it is told again
        await stage.receive(place.organization_id, WorkspaceDeleted(**workspace(place, 9)))
    rows = await stage.sql("select status, stop_reason from run where id = $1", run.id)
    assert [tuple(row) for row in rows] == [("cancelled", "killed")]
    switches = await stage.sql("select scope, reason from kill_switch where target_id = $1", place.workspace_id)
    assert [tuple(row) for row in switches] == [("workspace", "The workspace was deleted.")]


async def test_what_is_queued_in_a_deleted_organization_ends(stage: Stage) -> None:
    place = await stage.place()
    await make_agent(stage, place, "writer")
    run = await start_run(stage, place.caller())
    deleted = OrganizationDeleted(
        organization_id=place.organization_id, version=9, name="o", slug="o", status="deleted", plan_tier="free",
        created_by="u",
    )  # fmt: skip
    await stage.receive(place.organization_id, deleted)
    rows = await stage.sql("select status, stop_reason from run where id = $1", run.id)
    assert [tuple(row) for row in rows] == [("cancelled", "killed")]
