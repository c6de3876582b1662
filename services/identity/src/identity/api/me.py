"""The route that says who is asking."""

from uuid import UUID

from pydantic import BaseModel, Field

from chassis.http import ANYONE, Router, Uow
from identity.usecases import me

router = Router("me", prefix="/v1")


class MyWorkspaceOut(BaseModel):
    """A workspace of the caller's organization."""

    id: UUID
    name: str
    environment_type: str


class MeOut(BaseModel):
    """The caller."""

    kind: str
    id: str
    user_id: UUID | None
    name: str | None
    organization_id: UUID
    organization_name: str | None
    organization_slug: str | None
    is_platform: bool
    roles: list[str]
    scopes: list[str] = Field(description="What the key is narrowed to; empty means all of its roles.")
    workspaces: list[MyWorkspaceOut]


@router.get("/me", permission=ANYONE)
async def get_me(uow: Uow) -> MeOut:
    """Who is asking, in which organization, by which roles, and which workspaces are there."""
    found = await me.get_me(uow)
    caller, organization = uow.caller, found.organization
    return MeOut(
        kind=caller.kind,
        id=caller.id,
        user_id=caller.user_id,
        name=found.user.name if found.user else None,
        organization_id=caller.organization_id,
        organization_name=organization.name if organization else None,
        organization_slug=organization.slug if organization else None,
        is_platform=organization.is_platform if organization else False,
        roles=sorted(caller.roles),
        scopes=sorted(caller.scopes),
        workspaces=[
            MyWorkspaceOut(id=row.id, name=row.name, environment_type=row.environment_type) for row in found.workspaces
        ],
    )
