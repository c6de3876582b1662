"""What callers send to runs that wait."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Request
from pydantic import Field

from chassis.http import Router
from chassis.units import in_unit, permit_of
from execution.api import objects_of, signals_of
from execution.api.steps import StepOut
from execution.usecases import waits
from resources.bodies import In

router = Router("run", prefix="/v1/runs")


class SignalRunIn(In):
    """A signal, by the name the orchestration waits for."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    payload: Any = Field(None, description="Becomes the output of the step that waits.")


@router.post("/{run_id}/signal", permission="run:signal")
async def signal_run(request: Request, run_id: UUID, body: SignalRunIn) -> StepOut:
    """Answer the steps of a run that wait for this signal; the run goes on. Returns the first of them."""
    objects = objects_of(request)
    send = lambda uow: waits.signal_run(uow, run_id, name=body.name, payload=body.payload, objects=objects)  # noqa: E731
    step = await in_unit(request, send)
    signals_of(request).queued()
    return await StepOut.of(step, objects, permit_of(request).masked)
