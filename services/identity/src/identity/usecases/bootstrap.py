"""Bootstrap: the operator's own organization and its owner, once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from chassis.errors import ConflictError
from chassis.uow import UnitOfWork
from identity.usecases.across import find_platform_organization
from identity.usecases.organizations import create_organization

SLUG = "platform"


@dataclass(frozen=True)
class Bootstrapped:
    """The platform organization; the key only when it was made just now."""

    organization_id: UUID
    api_key: str | None


async def bootstrap(uow: UnitOfWork, *, owner_email: str) -> Bootstrapped:
    """Make the platform organization with a platform_admin and its key; a second time changes nothing."""
    existing = await find_platform_organization(uow)
    if existing is not None:
        return Bootstrapped(existing, None)
    try:
        made = await create_organization(
            uow,
            name="Platform",
            slug=SLUG,
            plan_tier="enterprise",
            owner_email=owner_email,
            owner_name="Platform administrator",
            is_platform=True,
        )
    except ConflictError:  # somebody else was faster
        existing = await find_platform_organization(uow)
        if existing is None:
            raise
        return Bootstrapped(existing, None)
    return Bootstrapped(made.organization.id, made.api_key)
