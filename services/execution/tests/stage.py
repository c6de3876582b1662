"""Execution on stage: organizations with a workspace, what they may have, and what was told of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import spine.testing.stage
from chassis.caller import Caller
from chassis.ids import new_id
from chassis.permits import Permit
from chassis.sealing import write_keyring
from execution.main import build
from execution.settings import Settings
from spine.testing.stage import staged

SERVICE = "execution"


@dataclass(frozen=True)
class Place:
    """One organization with one workspace."""

    organization_id: UUID
    workspace_id: UUID

    def caller(self, role: str = "org_admin", *, scopes: Sequence[str] = ()) -> Caller:
        """A fresh user of the organization."""
        user = new_id()
        return Caller(
            self.organization_id,
            "user",
            str(user),
            user_id=user,
            roles=frozenset((role,)),
            scopes=frozenset(scopes),
            traceparent=f"00-{user.int:032x}-00f067aa0ba902b7-00",
        )


@dataclass
class Stage(spine.testing.stage.Stage):
    """What the tests of one module share."""

    directory: Path

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement as the superuser."""
        return await self.database.sql(statement, *values)

    async def bodies(self, organization_id: UUID) -> list[dict[str, Any]]:
        """Every fact that an organization's changes have left, in order, as it will be published."""
        found = await self.facts(organization_id=organization_id)
        return [envelope.model_dump(mode="json") for envelope in found]

    async def types(self, organization_id: UUID) -> list[str]:
        """The types of those facts, without the service's name."""
        found = await self.facts(organization_id=organization_id)
        return [envelope.type.removeprefix("execution.") for envelope in found]

    async def place(self, **workspace: Any) -> Place:
        """A fresh organization with one workspace."""
        place = Place(await self.organization(), new_id())
        await self.workspace(place, place.workspace_id, **workspace)
        return place

    async def workspace(self, place: Place, workspace_id: UUID, **fields: Any) -> None:
        """A workspace as its projection holds it."""
        row = {
            "id": workspace_id, "organization_id": place.organization_id, "name": "main",
            "environment_type": "development", "status": "active", "max_agents": 50, "max_concurrent_executions": 10,
            "requires_approval": False, "pii_allowed": True, "encryption_required": False, "retention_days": 30,
            **fields,
        }  # fmt: skip
        slots = ", ".join(f"${at}" for at in range(1, len(row) + 1))
        await self.sql(f"insert into workspace ({', '.join(row)}) values ({slots})", *row.values())

    async def subscription(self, place: Place, *, agents: int = 50, runs: int = 1000) -> None:
        """A subscription as its projection holds it."""
        now = datetime(2026, 11, 1, tzinfo=UTC)
        await self.sql(
            """insert into subscription (id, organization_id, plan_id, status, current_period_start, current_period_end,
            max_agents, max_executions_per_month) values ($1, $2, 'free', 'active', $3, $3, $4, $5)""",
            new_id(), place.organization_id, now, agents, runs,
        )  # fmt: skip


def permit(caller: Caller, permission: str, *, own_only: bool = False) -> Permit:
    return Permit(permission, own_only=own_only, owner_id=caller.owner_id)


@asynccontextmanager
async def make_stage(postgres_url: str, directory: Path) -> AsyncIterator[Stage]:
    keyring = write_keyring(directory / "keyring.json")
    values = {"key_encryption_file": keyring, "object_directory": directory / "objects"}
    async with staged(build, Settings, SERVICE, postgres_url, **values) as made:
        yield Stage(made.service, made.running, made.database, made.issuer, directory)
