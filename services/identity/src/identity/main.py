"""Identity's table of contents."""

import identity
from chassis.migrate import migrations_of
from identity.api import api_keys, me, organizations, users, workspaces
from identity.consumers import provisioning
from identity.settings import Settings
from identity.usecases.across import RESTATE
from spine.facts import handlers_in
from spine.service import Service


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
