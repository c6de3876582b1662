"""Signals: what somebody sends to a run that waits for it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.errors import ConflictError
from chassis.objects import Objects
from chassis.uow import UnitOfWork
from contracts.execution import RunSignalled
from execution.tables.runs import Run
from execution.usecases.waits import complete_wait, find_signal_waits


async def signal_run(uow: UnitOfWork, run_id: UUID, *, name: str, payload: Any, objects: Objects) -> Run:
    """Answer every step of the run that waits for a signal of this name, or has it as its id, with the payload.

    ConflictError `signal_not_awaited` where none waits for it: sending it later, once one does, is right.
    """
    run = await uow.get(Run, run_id, lock=True)
    waits = await find_signal_waits(uow, run, name)
    if not waits:
        raise ConflictError(f"No step of this run waits for a signal {name!r:.80} now.", code="signal_not_awaited")
    uow.emit(RunSignalled.of(run, owner_id=run.created_by, name=name, step_ids=[step.id for step in waits]))
    for step in waits:
        await complete_wait(uow, run, step, payload, objects=objects)
    return run
