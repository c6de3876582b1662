"""A new organization gets its default gateway."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import OrganizationCreated, OrganizationRestated
from gateway.usecases import gateways
from spine.facts import on


@on(OrganizationCreated, OrganizationRestated)
async def create_default_gateway(uow: UnitOfWork, _: OrganizationCreated | OrganizationRestated) -> None:
    """The way in that every organization has; a restated organization that has one keeps it."""
    await gateways.create_default_gateway(uow)
