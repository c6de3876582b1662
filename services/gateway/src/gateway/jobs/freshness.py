"""Every second, how fresh this service's knowledge of identity is goes where every process can read it."""

from __future__ import annotations

from datetime import datetime

from chassis.caller import NOBODY, Caller
from gateway.usecases.freshness import note_attestation
from spine.service import Running

PRODUCER = "identity"


async def note_freshness(running: Running) -> None:
    """The newest attestation of identity that the consumer here has come to."""
    for loop in running.loops:
        state = loop.state
        if state.get("producer") == PRODUCER and state["attested_at"]:
            async with running.units.begin(Caller.system(NOBODY, "gateway.freshness")) as uow:
                await note_attestation(uow, PRODUCER, datetime.fromisoformat(state["attested_at"]))
