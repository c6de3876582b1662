"""The statements that cross organizations, and why.

`organizations_with_bundle()`: restating bundles for a service that starts from nothing has to visit every
organization. It returns ids only; each organization's bundle is then read under its own row security.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select

from chassis.uow import UnitOfWork
from policy.usecases import bundles


async def restate_bundles(uow: UnitOfWork, organization_id: UUID | None) -> int:
    """Publish the bundle of one organization, or of all, again; returns how many there were."""
    function = func.organizations_with_bundle()
    found = [organization_id] if organization_id else await uow.all(select(function.column_valued()))
    count = 0
    for each in found:
        await uow.become(uow.caller.within(each))
        count += await bundles.restate_bundle(uow)
    return count
