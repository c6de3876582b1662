"""Partitions are made ahead, because a missing one stops the writer."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text

from chassis.caller import Caller
from spine.service import Running


async def make_months(running: Running) -> None:
    """Have the months ahead."""
    async with running.units.begin(Caller.system(UUID(int=0), "audit.partitions")) as uow:
        await uow.execute(text("select entry_make_months(2)"))
