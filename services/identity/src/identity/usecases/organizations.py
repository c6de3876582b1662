"""Organizations: made by the platform, whole from the first second; suspended, resumed and deleted everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chassis.errors import ConflictError, NotFoundError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.identity import (
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationProvisioned,
    OrganizationResumed,
    OrganizationState,
    OrganizationSuspended,
    OrganizationUpdated,
)
from identity.domain.roles import owner_role
from identity.tables.organizations import Organization
from identity.usecases import api_keys, users, workspaces
from resources.patches import apply_patch, touch
from resources.versions import require_version

PLAN_TIERS = ("free", "pro", "enterprise")


@dataclass(frozen=True)
class NewOrganization:
    """An organization with its first owner, workspace and key. The key is shown this once."""

    organization: Organization
    owner_id: UUID
    workspace_id: UUID
    api_key: str


async def create_organization(
    uow: UnitOfWork,
    *,
    name: str,
    slug: str,
    plan_tier: str,
    owner_email: str,
    owner_name: str,
    logo_url: str | None = None,
    is_platform: bool = False,
) -> NewOrganization:
    """Make a tenant with its first owner, default workspace and the owner's key, all in the new organization itself.

    Its subscription and gateway follow within a second, made by their services. ConflictError for a slug that any
    organization has or had.
    """
    created_by = uow.caller.owner_id
    await uow.become(uow.caller.within(new_id()))
    organization = Organization(
        id=uow.organization_id,
        name=name,
        slug=slug,
        logo_url=logo_url,
        status="active",
        plan_tier=plan_tier,
        is_platform=is_platform,
        has_subscription=False,
        has_gateway=False,
        created_by=created_by,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(organization, conflict=f"The slug {slug!r} is taken, for ever.")
    uow.emit(OrganizationCreated.of(organization))
    role = owner_role(is_platform=is_platform)
    owner = await users.add_user(uow, email=owner_email, name=owner_name, role=role, status="active")
    workspace = await workspaces.create_default_workspace(uow)
    _, key = await api_keys.add_key(uow, user_id=owner.id, name="first key", role=role, scopes=[], expires_at=None)
    return NewOrganization(organization, owner.id, workspace.id, key)


async def get_organization(uow: UnitOfWork, organization_id: UUID) -> Organization:
    """One organization: the caller's own."""
    return await uow.get(Organization, organization_id)


async def update_organization(
    uow: UnitOfWork, organization_id: UUID, *, expected_version: int | None, changes: Mapping[str, Any]
) -> Organization:
    """Change the name or the logo."""
    organization = await uow.get(Organization, organization_id, lock=True)
    require_version(organization.version, expected_version)
    if apply_patch(uow, organization, changes):
        uow.emit(OrganizationUpdated.of(organization))
    return organization


async def delete_organization(uow: UnitOfWork, organization_id: UUID) -> None:
    """End an organization: nothing of it runs or is read any more. Deleting it again changes nothing."""
    organization = await uow.get(Organization, organization_id, lock=True)
    _delete(uow, organization)


async def get_organization_for_platform(uow: UnitOfWork, organization_id: UUID) -> Organization:
    """One tenant, as the platform: what its row says, nothing inside it."""
    return await _of_platform(uow, organization_id, lock=False)


async def suspend_organization(uow: UnitOfWork, organization_id: UUID) -> Organization:
    """Stop an organization everywhere, as the platform; suspending it again changes nothing."""
    organization = await _tenant(uow, organization_id)
    if organization.status == "suspended":
        return organization
    if organization.status == "deleted":
        raise ConflictError("This organization is deleted.", code="organization_deleted")
    organization.status = "suspended"
    return _changed(uow, organization, OrganizationSuspended)


async def resume_organization(uow: UnitOfWork, organization_id: UUID) -> Organization:
    """Let a suspended organization work again, as the platform; resuming it again changes nothing."""
    organization = await _tenant(uow, organization_id)
    if organization.status == "active":
        return organization
    if organization.status == "deleted":
        raise ConflictError("This organization is deleted.", code="organization_deleted")
    organization.status = "active"
    return _changed(uow, organization, OrganizationResumed)


async def delete_organization_for_platform(uow: UnitOfWork, organization_id: UUID) -> None:
    """End an organization, as the platform."""
    _delete(uow, await _tenant(uow, organization_id))


async def note_provisioned(uow: UnitOfWork, *, part: str) -> None:
    """A service has made its part (`subscription`, `gateway`); with the last one the organization is provisioned."""
    organization = await uow.find(Organization, uow.organization_id, lock=True)
    if organization is None or getattr(organization, f"has_{part}"):
        return
    setattr(organization, f"has_{part}", True)
    if organization.has_subscription and organization.has_gateway and organization.provisioned_at is None:
        organization.provisioned_at = uow.now
        uow.emit(OrganizationProvisioned.of(organization))


async def follow_plan(uow: UnitOfWork, plan_tier: str) -> None:
    """Show the plan that billing has moved the organization to."""
    organization = await uow.find(Organization, uow.organization_id, lock=True)
    if (
        organization is not None
        and plan_tier in PLAN_TIERS
        and apply_patch(uow, organization, {"plan_tier": plan_tier})
    ):
        uow.emit(OrganizationUpdated.of(organization))


async def _of_platform(uow: UnitOfWork, organization_id: UUID, *, lock: bool = True) -> Organization:
    """Go on in that organization; the platform's own rules are asked about it."""
    await uow.become(uow.caller.within(organization_id))
    organization = await uow.find(Organization, organization_id, lock=lock)
    if organization is None:
        raise NotFoundError("There is no organization with this id.")
    attributes = {"slug": organization.slug, "status": organization.status, "plan_tier": organization.plan_tier}
    uow.permit.check(uow.permit.kind, str(organization_id), attributes)
    return organization


async def _tenant(uow: UnitOfWork, organization_id: UUID) -> Organization:
    organization = await _of_platform(uow, organization_id)
    if organization.is_platform:
        raise ConflictError("The platform's own organization cannot be stopped.", code="platform_organization")
    return organization


def _delete(uow: UnitOfWork, organization: Organization) -> None:
    if organization.is_platform:
        raise ConflictError("The platform's own organization cannot be deleted.", code="platform_organization")
    if organization.status != "deleted":
        organization.status = "deleted"
        _changed(uow, organization, OrganizationDeleted)


def _changed(uow: UnitOfWork, organization: Organization, kind: type[OrganizationState]) -> Organization:
    touch(uow, organization)
    uow.emit(kind.of(organization))
    return organization
