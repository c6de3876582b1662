"""Bootstrap: the platform organization, and its key in a file that only the operator may read."""

import json

from chassis.caller import NOBODY, Caller
from identity.settings import Settings
from identity.usecases.api_keys import add_key
from identity.usecases.bootstrap import bootstrap
from remit_local.platform.deployment import Deployment
from remit_local.private_files import write_private
from spine.service import one_unit_of_work

DEFAULT_EMAIL = "operator@localhost"


async def ensure_operator(deployment: Deployment, owner_email: str = DEFAULT_EMAIL) -> bool:
    """Make the platform organization and keep its key; tells whether there was anything to do.

    A key is shown once: if a crash or a deletion lost the file, the operator, who holds the database, gets another.
    """
    if deployment.operator_file.exists():
        return False
    told = deployment.settings("identity", alone=False)
    settings = Settings.load("identity", {f"REMIT_{name}": value for name, value in told.items()})
    async with one_unit_of_work(settings, Caller.system(NOBODY, "identity.bootstrap")) as uow:
        made = await bootstrap(uow, owner_email=owner_email)
    key = made.api_key
    if key is None:
        caller = Caller.system(made.organization_id, "identity.bootstrap")
        async with one_unit_of_work(settings, caller) as uow:
            _, key = await add_key(
                uow, user_id=None, name="operator", role="platform_admin", scopes=[], expires_at=None
            )
    content = {"organization_id": str(made.organization_id), "api_key": key}
    write_private(deployment.operator_file, json.dumps(content, indent=1))
    return True
