"""Telling of gaps, within seconds."""

from __future__ import annotations

from uuid import UUID

from audit.usecases import coverage
from spine.service import Running


async def announce_gaps(running: Running) -> None:
    """Each gap becomes a fact, and a second one when it was healed."""
    async with running.units.begin(coverage.teller(UUID(int=0))) as uow:
        platform = await coverage.find_platform(uow)
    if platform is not None:
        async with running.units.begin(coverage.teller(platform)) as uow:
            await coverage.announce_gaps(uow)
