"""Routes of forks: a run done again from a step, and beside the one it comes from."""

from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Header, Request, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from chassis.objects import Objects
from chassis.units import in_unit, permit_of, rules_of
from chassis.uow import UnitOfWork
from execution.api import VersionNumber, expect_watcher, objects_of, wake_ups_of
from execution.api.runs import RunOut
from execution.tables.runs import Run
from execution.usecases import forks
from execution.usecases.forks import Comparison, ForkRequest, same_json
from resources.bodies import In

router = Router("run", prefix="/v1/runs")


class ForkRunIn(In):
    """From where a run is to be done again; what is left out stays as it was."""

    from_step: Annotated[str, Field(min_length=1, max_length=63, description="The first step that is done again.")]
    from_iteration: Annotated[int, Field(ge=0, le=100_000, description="Which time round or item, from 0.")] = 0
    input: Any = Field(None, description="Another input; steps before keep what the original's gave.")
    version: VersionNumber | None = Field(None, description="Another version: a number, or `current`.")
    allow_writes: bool = Field(default=False, description="Really do writes, instead of playing what was recorded.")


class StepDifferenceOut(BaseModel):
    """One step in both runs; kept, same, changed, added or missing."""

    node: str
    iteration: int
    change: str
    status_before: str | None
    status_after: str | None
    output_before: Any
    output_after: Any


class DifferenceOut(BaseModel):
    """A fork beside the run it comes from."""

    original_id: UUID
    fork_id: UUID
    statuses: tuple[str, str]
    same_output: bool
    outputs: tuple[Any, Any] = Field(description="null where the caller may not see them.")
    cost_usd_micros: tuple[int, int]
    tokens: tuple[int, int]
    execution_time_ms: tuple[int | None, int | None]
    steps: list[StepDifferenceOut]

    @classmethod
    async def of(cls, found: Comparison, objects: Objects, masked: tuple[str, ...]) -> Self:
        """The public form, the original always before the fork."""
        both = [await RunOut.of(run, objects, masked) for run in (found.original, found.fork)]
        shown = "output" not in masked
        return cls(
            original_id=found.original.id,
            fork_id=found.fork.id,
            statuses=(both[0].status, both[1].status),
            same_output=same_json(*found.outputs),
            outputs=found.outputs if shown else (None, None),
            cost_usd_micros=(both[0].cost_usd_micros, both[1].cost_usd_micros),
            tokens=(both[0].input_tokens + both[0].output_tokens, both[1].input_tokens + both[1].output_tokens),
            execution_time_ms=(both[0].execution_time_ms, both[1].execution_time_ms),
            steps=[
                StepDifferenceOut(
                    node=step.node,
                    iteration=step.iteration,
                    change=step.change,
                    status_before=step.before.status if step.before else None,
                    status_after=step.after.status if step.after else None,
                    output_before=step.before.output if step.before and shown else None,
                    output_after=step.after.output if step.after and shown else None,
                )
                for step in found.steps
            ],
        )


@router.post("/{run_id}/fork", permission="run:fork", status=202)
async def fork_run(  # noqa: PLR0917  (each is a parameter of the route)
    request: Request,
    response: Response,
    run_id: UUID,
    body: ForkRunIn,
    prefer: Annotated[str, Header(max_length=200, description="`watch`: somebody will watch it at once.")] = "",
    idempotency_key: Annotated[str | None, Header(description="The same key and body fork once, for a day.")] = None,
) -> RunOut:
    """Do a run again from one of its steps: what came before is kept, and writes are played from the record."""
    asked = ForkRequest(
        from_step=body.from_step,
        from_iteration=body.from_iteration,
        input=body.input,
        has_input="input" in body.model_fields_set,
        semver=body.version,
        allow_writes=body.allow_writes,
    )
    rules, objects = await rules_of(request), objects_of(request)

    async def fork(uow: UnitOfWork) -> Run:
        return await forks.fork_run(
            uow, run_id, asked, rules=rules, objects=objects, idempotency_key=idempotency_key
        )  # fmt: skip

    run = await in_unit(request, fork)
    await expect_watcher(request, run.id, prefer)
    wake_ups_of(request).queued()
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return await RunOut.of(run, objects, permit_of(request).masked)


@router.get("/{run_id}/difference", permission="run:read")
async def compare_run(request: Request, uow: Uow, run_id: UUID) -> DifferenceOut:
    """A fork beside the run it comes from: outputs, cost, time, and step by step what is different."""
    objects = objects_of(request)
    return await DifferenceOut.of(await forks.compare_run(uow, run_id, objects=objects), objects, uow.permit.masked)
