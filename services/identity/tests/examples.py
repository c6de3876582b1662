"""How each route is used."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from services.identity.tests.stage import Stage

import spine.testing.stage
from chassis.caller import Caller
from chassis.ids import new_id
from spine.testing.examples import Call, Examples

EXAMPLES = Examples()
AnyStage = spine.testing.stage.Stage


async def made(stage: AnyStage, caller: Caller, path: str, body: dict[str, Any]) -> UUID:
    """The id of what a request of the caller made."""
    answer = await stage.client(caller).post(path, body)
    assert answer.status == 201, answer.body
    return UUID(answer.json()["id"])


async def a_user(stage: AnyStage, caller: Caller) -> UUID:
    return await made(stage, caller, "/v1/users", {"email": f"{new_id().hex}@acme.test", "role": "developer"})


async def a_workspace(stage: AnyStage, caller: Caller) -> UUID:
    body = {"name": f"w {new_id().hex[-6:]}", "environment_type": "staging"}
    return await made(stage, caller, "/v1/workspaces", body)


async def a_key(stage: AnyStage, caller: Caller) -> UUID:
    return await made(stage, caller, "/v1/api-keys", {"name": "robot", "role": "developer"})


@EXAMPLES.of("create_organization")
async def _(stage: AnyStage, caller: Caller) -> Call:
    slug = f"o-{new_id().hex[-12:]}"
    return Call(body={"name": "Acme", "slug": slug, "owner_email": "ada@acme.test"})


@EXAMPLES.of("get_organization", "update_organization", "delete_organization")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call({"organization_id": caller.organization_id}, {"name": "New name"}, headers={"If-Match": '"1"'})


@EXAMPLES.of("get_organization_for_platform", "suspend_organization", "delete_organization_for_platform")
async def _(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    return Call({"organization_id": (await stage.home()).id})


@EXAMPLES.of("resume_organization")
async def _(stage: AnyStage, caller: Caller) -> Call:
    assert isinstance(stage, Stage)
    home = await stage.home()
    answer = await stage.client(stage.platform_admin()).post(f"/v1/platform/organizations/{home.id}/suspend")
    assert answer.status == 200
    return Call({"organization_id": home.id})


@EXAMPLES.of("invite_user")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"email": f"{new_id().hex}@acme.test", "name": "Grace", "role": "developer"})


@EXAMPLES.of("get_user", "update_user", "activate_user", "suspend_user", "delete_user")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call({"user_id": await a_user(stage, caller)}, {"name": "Grace Hopper"}, headers={"If-Match": '"1"'})


@EXAMPLES.of("create_workspace")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"name": "live", "environment_type": "production", "retention_days": 365})


@EXAMPLES.of("get_workspace", "update_workspace", "update_workspace_limits", "delete_workspace")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call({"workspace_id": await a_workspace(stage, caller)}, {"max_agents": 7}, headers={"If-Match": '"1"'})


@EXAMPLES.of("create_api_key")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"name": "robot", "role": "operator", "scopes": ["run:read"]})


@EXAMPLES.of("get_api_key", "revoke_api_key", "rotate_api_key")
async def _(stage: AnyStage, caller: Caller) -> Call:
    return Call({"api_key_id": await a_key(stage, caller)})
