"""Identity's table of contents."""

import identity
from chassis.facts import handlers_in
from chassis.migrate import migrations_of
from chassis.service import Service
from identity.api import api_keys, me, organizations, users, workspaces
from identity.consumers import provisioning
from identity.settings import Settings
from identity.usecases.across import RESTATE


def build(settings: Settings) -> Service:
    """The identity service, ready to run."""
    return Service(
        "identity",
        settings,
        migrations=migrations_of(identity),
        routers=[organizations.router, users.router, workspaces.router, api_keys.router, me.router],
        consumers=handlers_in(provisioning),
        restate=RESTATE,
    )
