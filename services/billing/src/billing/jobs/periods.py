"""Billing periods end by themselves."""

from __future__ import annotations

from billing.usecases import across, subscriptions
from chassis.caller import NOBODY, Caller
from spine.service import Running


async def renew_subscriptions(running: Running) -> None:
    """Begin the next period of every subscription whose last one is over."""
    async with running.units.begin(Caller.system(NOBODY, "billing.periods")) as uow:
        ended = await across.ended_periods(uow)
    for organization_id in ended:
        async with running.units.begin(Caller.system(organization_id, "billing.periods")) as uow:
            await subscriptions.renew_subscription(uow)
