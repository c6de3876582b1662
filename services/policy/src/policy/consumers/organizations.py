"""An organization that is gone has no policies."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import OrganizationDeleted
from policy.usecases import policies
from spine.facts import on


@on(OrganizationDeleted)
async def delete_organization_policies(uow: UnitOfWork, _: OrganizationDeleted) -> None:
    """Its rules go with it."""
    await policies.delete_organization_policies(uow)
