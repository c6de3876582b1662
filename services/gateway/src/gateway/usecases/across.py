"""The statements that cross organizations, and why.

- `organizations_with_gateway()`: restating gateways for a service that starts from nothing has to visit every
  organization. It returns ids only; each one's rows are then read under its own row security.
- `find_api_key(prefix)`: a key says nothing of its organization, so the look-up comes before it is known. It returns
  one row or none, and is used in `usecases/callers.py` alone.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select

from chassis.uow import UnitOfWork
from gateway.usecases import gateways


async def restate_gateways(uow: UnitOfWork, organization_id: UUID | None) -> int:
    """Publish the gateways of one organization, or of all, again; returns how many there were."""
    function = func.organizations_with_gateway()
    found = [organization_id] if organization_id else await uow.all(select(function.column_valued()))
    count = 0
    for each in found:
        await uow.become(uow.caller.within(each))
        count += await gateways.restate_gateways(uow)
    return count
