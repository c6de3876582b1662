"""Which organization is the operator's."""

from __future__ import annotations

from audit.usecases import coverage
from chassis.uow import UnitOfWork
from contracts.identity import OrganizationCreated, OrganizationRestated
from spine.facts import on


@on(OrganizationCreated, OrganizationRestated)
async def remember_platform(uow: UnitOfWork, fact: OrganizationCreated | OrganizationRestated) -> None:
    """Gaps are told of in its log."""
    if fact.is_platform:
        await coverage.remember_platform(uow, fact.organization_id)
