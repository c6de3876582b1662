"""The route that shows the system's roles."""

from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from policy.usecases import roles

router = Router("policy", prefix="/v1/roles")


class RoleOut(BaseModel):
    """A role, and how it holds each of its permissions."""

    name: str
    grants: dict[str, str] = Field(
        description="Permission to grant: `yes`; `masked`; or for certain rows only: own, lead, named, sandbox."
    )


class RolesOut(BaseModel):
    """The system's roles; a policy's own roles are in its rules."""

    items: list[RoleOut]
    next_cursor: str | None = None


@router.get("", permission="policy:read")
async def list_roles(uow: Uow) -> RolesOut:
    """The role matrix, which every organization's policies stand upon; nobody changes it."""
    return RolesOut(items=[RoleOut(name=name, grants=grants) for name, grants in roles.list_roles(uow)])
