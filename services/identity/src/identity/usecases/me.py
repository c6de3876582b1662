"""Who is asking, and where it may work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from chassis.uow import UnitOfWork
from identity.tables.organizations import Organization
from identity.tables.users import User
from identity.tables.workspaces import Workspace
from identity.usecases.workspaces import MAX_WORKSPACES


@dataclass(frozen=True)
class Me:
    """The caller, its organization, and the workspaces there."""

    organization: Organization | None
    user: User | None
    workspaces: Sequence[Workspace]


async def get_me(uow: UnitOfWork) -> Me:
    """What a tool needs to know before it does anything else."""
    organization = await uow.find(Organization, uow.organization_id)
    user = await uow.find(User, uow.caller.user_id) if uow.caller.user_id else None
    statement = select(Workspace).where(Workspace.organization_id == uow.organization_id).order_by(Workspace.id)
    return Me(organization, user, await uow.all(statement.limit(MAX_WORKSPACES)))
