"""Every few seconds: runs whose worker is gone."""

from __future__ import annotations

from execution.usecases import leases
from execution.usecases.engine_loop import addresses_of
from spine.jobs import every
from spine.service import Running

REAP_SECONDS = 2


@every(seconds=REAP_SECONDS)
async def reap_leases(running: Running) -> None:
    """Dispatch again what lost its worker."""
    await leases.reap(addresses_of(running))
