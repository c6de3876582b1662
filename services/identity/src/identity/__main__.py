"""`python -m identity api|work|all`, and once: `python -m identity bootstrap <e-mail of the operator>`."""

import asyncio
import json
import sys

from chassis.caller import NOBODY, Caller
from identity.main import build
from identity.settings import Settings
from identity.usecases.bootstrap import bootstrap
from spine.process import environment, main
from spine.service import one_unit_of_work


async def bootstrap_once(owner_email: str) -> dict[str, str | None]:
    """Make the platform organization; its key is in the answer the first time only."""
    settings = Settings.load("identity", environment())
    async with one_unit_of_work(settings, Caller.system(NOBODY, "identity.bootstrap")) as uow:
        made = await bootstrap(uow, owner_email=owner_email)
        return {"organization_id": str(made.organization_id), "api_key": made.api_key}


if __name__ == "__main__":
    if sys.argv[1:2] == ["bootstrap"]:
        email = sys.argv[2] if len(sys.argv) > 2 else "operator@localhost"
        sys.stdout.write(json.dumps(asyncio.run(bootstrap_once(email))) + "\n")
    else:
        main(build, Settings, "identity")
