from __future__ import annotations

import asyncio

import pytest
from services.identity.tests.stage import Home, Stage

from chassis.errors import ConflictError, InvalidError, LimitExceededError, NotFoundError
from chassis.ids import new_id
from contracts.identity import WorkspaceCreated, WorkspaceDeleted, WorkspaceRestated, WorkspaceUpdated
from identity.tables.workspaces import Workspace
from identity.usecases import workspaces
from identity.usecases.across import RESTATE

pytestmark = pytest.mark.anyio


async def make(stage: Stage, home: Home, name: str, **fields: object) -> Workspace:
    async with stage.begin(home.owner) as uow:
        return await workspaces.create_workspace(uow, name=name, environment_type="staging", fields=fields)


async def test_others_are_told_all_they_obey(stage: Stage, home: Home) -> None:
    source = home.workspace_id
    fields = {"promotion_from": source, "retention_days": 365, "max_agents": 3, "pii_allowed": True}
    made = await make(stage, home, "live", **fields, required_approvers=["operator"])
    fact = (await stage.facts(WorkspaceCreated, organization_id=home.id))[-1]
    assert fact.data == {
        "workspace_id": str(made.id), "version": 1, "name": "live", "environment_type": "staging", "status": "active",
        "max_agents": 3, "max_concurrent_executions": 64, "promotion_from": str(source),
        "requires_approval": False, "required_approvers": ["operator"], "pii_allowed": True, "encryption_required": False, "retention_days": 365,
    }  # fmt: skip


async def test_a_name_is_taken_once_also_by_renaming(stage: Stage, home: Home) -> None:
    made = await make(stage, home, "two")
    with pytest.raises(ConflictError) as refused:
        await make(stage, home, "two")
    assert refused.value.code == "already_exists"
    async with stage.begin(home.owner) as uow:
        with pytest.raises(ConflictError) as refused:
            await workspaces.update_workspace(uow, made.id, expected_version=1, changes={"name": "development"})
        assert refused.value.code == "already_exists"
    async with stage.begin(home.owner) as uow:
        assert (await workspaces.get_workspace(uow, made.id)).name == "two"
    assert await stage.facts(WorkspaceUpdated, organization_id=home.id) == []


async def test_nothing_changed_is_no_change(stage: Stage, home: Home) -> None:
    async with stage.begin(home.owner) as uow:
        row = await workspaces.update_workspace(
            uow, home.workspace_id, expected_version=1, changes={"name": "development", "retention_days": 90}
        )
    assert row.version == 1
    assert await stage.facts(WorkspaceUpdated, organization_id=home.id) == []


async def test_promotion_goes_only_forward(stage: Stage, home: Home) -> None:
    second = await make(stage, home, "second", promotion_from=home.workspace_id)
    third = await make(stage, home, "third", promotion_from=second.id)
    async with stage.begin(home.owner) as uow:
        with pytest.raises(InvalidError) as refused:
            await workspaces.update_workspace(
                uow, home.workspace_id, expected_version=1, changes={"promotion_from": third.id}
            )
    assert refused.value.code == "promotion_cycle"
    elsewhere = (await stage.home()).workspace_id
    for unknown in (new_id(), elsewhere):
        with pytest.raises(NotFoundError):
            await make(stage, home, "fourth", promotion_from=unknown)


async def test_two_promotions_at_once_close_no_circle(stage: Stage, home: Home) -> None:
    other = await make(stage, home, "other")
    client = stage.client(home.owner)

    async def promote(place: object, source: object) -> int:
        body = {"promotion_from": str(source)}
        return (await client.patch(f"/v1/workspaces/{place}", body, headers={"If-Match": '"1"'})).status

    pairs = ((other.id, home.workspace_id), (home.workspace_id, other.id))
    assert sorted(await asyncio.gather(*(promote(*pair) for pair in pairs))) == [200, 422]


async def test_an_organization_keeps_a_workspace_and_its_sources(stage: Stage, home: Home) -> None:
    async def delete(workspace_id: object) -> None:
        async with stage.begin(home.owner) as uow:
            await workspaces.delete_workspace(uow, workspace_id)  # type: ignore[arg-type]  # ids of rows made here

    with pytest.raises(ConflictError) as refused:
        await delete(home.workspace_id)
    assert refused.value.code == "last_workspace"
    second = await make(stage, home, "second", promotion_from=home.workspace_id)
    with pytest.raises(ConflictError) as refused:
        await delete(home.workspace_id)
    assert refused.value.code == "promotion_source"
    await delete(second.id)
    (fact,) = await stage.facts(WorkspaceDeleted, organization_id=home.id)
    assert (fact.data["workspace_id"], fact.data["status"], fact.data["version"]) == (str(second.id), "deleted", 2)
    with pytest.raises(NotFoundError):
        await delete(second.id)


async def test_the_number_of_workspaces_is_limited(stage: Stage, home: Home) -> None:
    await stage.database.sql(
        """insert into workspace select gen_random_uuid(), organization_id, name || n, environment_type, description,
        gateway_id, max_agents, max_concurrent_executions, promotion_from, requires_approval, required_approvers,
        pii_allowed, encryption_required, retention_days, created_by, created_at, updated_at, version
        from workspace, generate_series(2, $2::int) n where organization_id = $1""",
        home.id,
        workspaces.MAX_WORKSPACES,
    )
    with pytest.raises(LimitExceededError) as refused:
        await make(stage, home, "one more")
    assert refused.value.code == "too_many_workspaces"


async def test_an_operator_changes_limits_and_nothing_else(stage: Stage, home: Home) -> None:
    operator = stage.client(await stage.member(home, "operator"))
    path, version = f"/v1/workspaces/{home.workspace_id}", {"If-Match": '"1"'}
    changed = await operator.patch(f"{path}/limits", {"max_agents": 7}, headers=version)
    assert (changed.status, changed.json()["max_agents"], changed.headers["etag"]) == (200, 7, '"2"')
    assert (await operator.patch(f"{path}/limits", {"name": "mine"}, headers={"If-Match": '"2"'})).status == 422
    assert (await operator.patch(path, {"max_agents": 8}, headers={"If-Match": '"2"'})).code == "missing_permission"
    drained = await operator.patch(f"{path}/limits", {"status": "draining"}, headers={"If-Match": '"2"'})
    assert (drained.status, drained.json()["status"], drained.json()["max_agents"]) == (200, "draining", 7)
    developer = stage.client(await stage.member(home, "developer"))
    assert (await developer.patch(f"{path}/limits", {"max_agents": 8}, headers=version)).code == "missing_permission"


async def test_a_workspace_drains_until_it_is_active_again_and_others_are_told(stage: Stage, home: Home) -> None:
    other = await make(stage, home, "other")
    client, path = stage.client(home.owner), f"/v1/workspaces/{home.workspace_id}"
    assert (await client.get(path)).json()["status"] == "active"
    for version, status in enumerate(("draining", "active"), start=1):
        changed = await client.patch(path, {"status": status}, headers={"If-Match": f'"{version}"'})
        assert (changed.status, changed.json()["status"]) == (200, status)
        fact = (await stage.facts(WorkspaceUpdated, organization_id=home.id))[-1]
        assert (fact.data["status"], fact.data["version"]) == (status, version + 1)
        draining = (await client.get("/v1/workspaces", query={"status": "draining"})).json()["items"]
        assert [each["id"] for each in draining] == [str(home.workspace_id)] * (status == "draining")
    assert (await client.get("/v1/workspaces/count", query={"status": "active"})).json()["count"] == 2
    again = await client.patch(path, {"description": "quiet"}, headers={"If-Match": '"3"'})
    assert (again.json()["status"], again.json()["version"]) == ("active", 4)
    refused = await client.patch(f"/v1/workspaces/{other.id}", {"status": "deleted"}, headers={"If-Match": '"1"'})
    assert refused.status == 422
    assert (await client.get("/v1/workspaces", query={"status": "gone"})).status == 422


async def test_a_draining_workspace_is_restated_as_such(stage: Stage, home: Home) -> None:
    async with stage.begin(home.owner) as uow:
        await workspaces.update_workspace_limits(
            uow, home.workspace_id, expected_version=1, changes={"status": "draining"}
        )
    async with stage.begin(home.owner) as uow:
        await RESTATE["workspace"](uow, home.id)
    (fact,) = await stage.facts(WorkspaceRestated, organization_id=home.id)
    assert fact.data["status"] == "draining"
