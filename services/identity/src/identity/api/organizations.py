"""Routes of organizations: their own, and the platform's over all of them.

Suspending, resuming and ending tenants asks for permissions that no role of a tenant holds: `organization:delete` is
every owner's, about its own.
"""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from identity.tables.organizations import Organization
from identity.usecases import across, organizations
from resources.bodies import In
from resources.http import ExpectedVersion
from resources.patches import PatchIn
from resources.versions import etag

router = Router("organization", prefix="/v1")

PlanTier = Literal["free", "pro", "enterprise"]


class CreateOrganizationIn(In):
    """A tenant and its first owner."""

    name: str = Field(min_length=1, max_length=200)
    slug: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="Unique for ever.")
    plan_tier: PlanTier = "free"
    logo_url: str | None = Field(None, max_length=2000)
    owner_email: str = Field(min_length=3, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")
    owner_name: str = Field("", max_length=200)


class UpdateOrganizationIn(PatchIn):
    """What an organization may change of itself; what is left out stays."""

    name: str = Field("", min_length=1, max_length=200)
    logo_url: str | None = Field(None, max_length=2000)


class OrganizationOut(BaseModel):
    """A tenant."""

    id: UUID
    name: str
    slug: str
    logo_url: str | None
    status: str
    plan_tier: str
    is_platform: bool
    provisioned_at: datetime | None = Field(description="When every service had made its part; null until then.")
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Organization) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class NewOrganizationOut(OrganizationOut):
    """A new tenant, with the key of its first owner: shown this once."""

    owner_id: UUID
    workspace_id: UUID
    api_key: str = Field(description="Keep it: nobody can show it again.")


class OrganizationsOut(BaseModel):
    """A page of tenants."""

    items: list[OrganizationOut]
    next_cursor: str | None


@router.post("/organizations", permission="organization:create", status=201)
async def create_organization(uow: Uow, body: CreateOrganizationIn, response: Response) -> NewOrganizationOut:
    """Make a tenant with its first owner, a default workspace and the owner's key."""
    made = await organizations.create_organization(uow, **body.model_dump())
    response.headers["Location"] = f"/v1/platform/organizations/{made.organization.id}"
    return NewOrganizationOut(
        **OrganizationOut.of(made.organization).model_dump(),
        owner_id=made.owner_id,
        workspace_id=made.workspace_id,
        api_key=made.api_key,
    )


@router.get("/organizations/{organization_id}", permission="organization:read")
async def get_organization(uow: Uow, organization_id: UUID, response: Response) -> OrganizationOut:
    """The caller's own organization."""
    organization = await organizations.get_organization(uow, organization_id)
    response.headers["ETag"] = etag(organization.version)
    return OrganizationOut.of(organization)


@router.patch("/organizations/{organization_id}", permission="organization:update")
async def update_organization(
    uow: Uow, organization_id: UUID, body: UpdateOrganizationIn, version: ExpectedVersion, response: Response
) -> OrganizationOut:
    """Change the name or the logo."""
    row = await organizations.update_organization(uow, organization_id, expected_version=version, changes=body.given())
    response.headers["ETag"] = etag(row.version)
    return OrganizationOut.of(row)


@router.delete("/organizations/{organization_id}", permission="organization:delete")
async def delete_organization(uow: Uow, organization_id: UUID) -> None:
    """End the organization: nothing of it runs or is read any more."""
    await organizations.delete_organization(uow, organization_id)


@router.get("/platform/organizations", permission="platform:read")
async def list_organizations(
    uow: Uow, limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: UUID | None = None
) -> OrganizationsOut:
    """All tenants in the order of their making; only what this page shows, nothing inside them."""
    rows = await across.list_organizations(uow, after=cursor, limit=limit)
    page = rows[:limit]
    next_cursor = str(page[-1].id) if len(rows) > limit else None
    return OrganizationsOut(items=[OrganizationOut.of(row) for row in page], next_cursor=next_cursor)


@router.get("/platform/organizations/{organization_id}", permission="platform:read")
async def get_organization_for_platform(uow: Uow, organization_id: UUID) -> OrganizationOut:
    """One tenant, and nothing inside it."""
    return OrganizationOut.of(await organizations.get_organization_for_platform(uow, organization_id))


@router.post("/platform/organizations/{organization_id}/suspend", permission="organization:suspend")
async def suspend_organization(uow: Uow, organization_id: UUID) -> OrganizationOut:
    """Stop a tenant everywhere within two seconds."""
    return OrganizationOut.of(await organizations.suspend_organization(uow, organization_id))


@router.post("/platform/organizations/{organization_id}/resume", permission="organization:resume")
async def resume_organization(uow: Uow, organization_id: UUID) -> OrganizationOut:
    """Let a suspended tenant work again."""
    return OrganizationOut.of(await organizations.resume_organization(uow, organization_id))


@router.delete("/platform/organizations/{organization_id}", permission="organization:suspend")
async def delete_organization_for_platform(uow: Uow, organization_id: UUID) -> None:
    """End a tenant."""
    await organizations.delete_organization_for_platform(uow, organization_id)
