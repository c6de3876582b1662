"""The caller's own organization as the one lock that what is counted or compared inside it waits for."""

from __future__ import annotations

from chassis.errors import NotFoundError
from chassis.uow import UnitOfWork
from identity.tables.organizations import Organization


async def lock_organization(uow: UnitOfWork) -> Organization:
    """The caller's organization, locked: whoever counts or compares its rows before writing comes one after another."""
    organization = await uow.find(Organization, uow.organization_id, lock=True)
    if organization is None:
        raise NotFoundError("There is no organization with this id.")
    return organization
