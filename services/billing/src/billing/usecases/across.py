"""The statements that cross organizations, and why.

`organizations_with_subscription()`: restating subscriptions for a projection that starts from nothing has to visit
every organization. It returns ids only; each organization's row is then read under its own row security.

`organizations_with_ended_period(moment)`: a clock renews the subscriptions whose period has ended, wherever they are.
It returns ids only, a thousand at most; each is renewed in a unit of work of its own organization.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select

from billing.usecases import subscriptions
from chassis.uow import UnitOfWork


async def restate_subscriptions(uow: UnitOfWork, organization_id: UUID | None) -> int:
    """Publish the subscription of one organization, or of all, again; returns how many there were."""
    function = func.organizations_with_subscription()
    found = [organization_id] if organization_id else await uow.all(select(function.column_valued()))
    count = 0
    for each in found:
        await uow.become(uow.caller.within(each))
        count += await subscriptions.restate_subscription(uow)
    return count


async def ended_periods(uow: UnitOfWork) -> Sequence[UUID]:
    """The organizations whose billing period is over."""
    found: Sequence[UUID] = await uow.all(select(func.organizations_with_ended_period(uow.now).column_valued()))
    return found
