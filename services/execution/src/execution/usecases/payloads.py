"""Payloads in the object store: they go when their run has gone."""

from __future__ import annotations

from math import inf
from uuid import UUID

from chassis.ids import id_age_seconds
from chassis.objects import Objects
from chassis.telemetry import logger
from execution.usecases.admission import sweeper
from execution.usecases.engine_loop import Addresses

YOUNG_SECONDS = 86_400
"""A payload is stored before its run is: what is so young is left alone."""
AT_ONCE = 500
_THERE = "select id from run where id = any($1::uuid[])"
log = logger(part="payloads")


async def sweep_payloads(addresses: Addresses, objects: Objects) -> int:
    """Remove the objects of runs that are not stored any more, or never were; returns of how many runs."""
    old = [owner for owner in await objects.runs() if YOUNG_SECONDS < id_age_seconds(owner[1]) < inf]
    if not old:
        return 0
    connection, gone = await sweeper(addresses, "payloads"), 0
    try:
        for start in range(0, len(old), AT_ONCE):
            batch = old[start : start + AT_ONCE]
            rows = await connection.fetch(_THERE, [run_id for _, run_id in batch])
            there = {UUID(bytes=row["id"].bytes) for row in rows}
            for organization_id, run_id in batch:
                if run_id not in there:
                    await objects.forget(organization_id, run_id)
                    gone += 1
    finally:
        connection.terminate()
    if gone:
        log.info("payloads of runs that are gone", runs=gone)
    return gone
