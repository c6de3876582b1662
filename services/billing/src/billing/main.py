"""Billing's table of contents."""

import billing
from billing.api import subscriptions, usage
from billing.consumers import counts, organizations, steps
from billing.jobs.periods import renew_subscriptions
from billing.settings import Settings
from billing.usecases.across import restate_subscriptions
from chassis.migrate import migrations_of
from spine.facts import handlers_in
from spine.jobs import every
from spine.service import Service


def build(settings: Settings) -> Service:
    """The billing service, ready to run."""
    return Service(
        "billing",
        settings,
        migrations=migrations_of(billing),
        routers=[subscriptions.router, usage.router],
        consumers=handlers_in(organizations, steps, counts),
        jobs=[every(seconds=60)(renew_subscriptions)],
        restate={"subscription": restate_subscriptions},
    )
