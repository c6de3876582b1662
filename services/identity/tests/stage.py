"""Identity on stage: organizations that are really made, with people in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import spine.testing.stage
from chassis.caller import Caller
from chassis.ids import new_id
from chassis.permits import Permit
from identity.main import build
from identity.settings import Settings
from identity.usecases import organizations, users
from spine.testing.stage import staged

SERVICE = "identity"


def as_user(organization_id: UUID, user_id: UUID, role: str, scopes: Sequence[str] = ()) -> Caller:
    return Caller(
        organization_id, "user", str(user_id), user_id=user_id, roles=frozenset((role,)), scopes=frozenset(scopes)
    )


@dataclass(frozen=True)
class Home:
    """One organization, as it was made."""

    id: UUID
    owner: Caller
    workspace_id: UUID
    api_key: str


class Stage(spine.testing.stage.Stage):
    """What the tests of one module share."""

    async def home(self, *, is_platform: bool = False, **fields: Any) -> Home:
        """A fresh organization with its owner, workspace and key."""
        slug = f"o-{new_id().hex[-12:]}"
        given = {"name": "Acme", "slug": slug, "plan_tier": "free", "owner_email": "ada@acme.test", "owner_name": "Ada"}
        async with self.begin(self.platform_admin()) as uow:
            made = await organizations.create_organization(uow, **(given | fields), is_platform=is_platform)
        owner = as_user(made.organization.id, made.owner_id, "org_owner")
        return Home(made.organization.id, owner, made.workspace_id, made.api_key)

    def platform_admin(self, role: str = "platform_admin") -> Caller:
        """Somebody of the operator's organization, which need not exist."""
        return as_user(new_id(), new_id(), role)

    async def member(self, home: Home, role: str, *, status: str = "active", scopes: Sequence[str] = ()) -> Caller:
        """Somebody new in an organization, past the limit of its subscription."""
        async with self.begin(home.owner) as uow:
            email = f"{new_id().hex[-12:]}@acme.test"
            user = await users.add_user(uow, email=email, name="Member", role=role, status=status)
        return as_user(home.id, user.id, role, scopes)

    async def types(self, home: Home) -> list[str]:
        """What was published of an organization, in order, without the service's name."""
        found = await self.facts(organization_id=home.id)
        return [envelope.type.removeprefix("identity.") for envelope in found]


def permit(caller: Caller, permission: str, *, own_only: bool = False) -> Permit:
    return Permit(permission, own_only=own_only, owner_id=caller.owner_id)


@asynccontextmanager
async def make_stage(postgres_url: str) -> AsyncIterator[Stage]:
    async with staged(build, Settings, SERVICE, postgres_url) as made:
        yield Stage(made.service, made.running, made.database, made.issuer)
