"""A new epoch of a service's fact log: obligatory after its database was restored from a backup."""

import asyncpg

from remit_local.platform.installation import Installation
from spine.outbox import new_epoch
from spine.stream import stream_of


async def begin_epoch(installation: Installation, service: str, *, above: int) -> int:
    """Number a service's facts above `above` from now on and record the void; returns the new epoch."""
    connection = await asyncpg.connect(installation.database_url(service, "relay"))
    try:
        return await new_epoch(connection, stream_of(service), above=above)
    finally:
        await connection.close()
