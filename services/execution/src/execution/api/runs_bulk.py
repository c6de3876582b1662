"""The route that starts many runs at once: a result for each, the others stay."""

from typing import Annotated, Self

from fastapi import Request
from pydantic import Field, model_validator

from chassis.http import Router
from chassis.units import in_unit, rules_of
from execution.api import objects_of, wake_ups_of
from execution.api.runs import RunSummaryOut, StartRunIn
from execution.tables.runs import Run
from execution.usecases import runs_bulk
from execution.usecases.runs_bulk import Asked
from resources.bodies import In
from resources.bulk import BulkOut, BulkResult, Items

router = Router("run", prefix="/v1/runs")


class StartRunItemIn(StartRunIn):
    """One run; the same key and body give the same run for 24 hours."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None

    def asked(self) -> Asked:
        """The same for the use case."""
        return Asked(self.request(), self.idempotency_key)


class StartRunsIn(In):
    """Runs to start."""

    items: Items[StartRunItemIn]

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        keys = [item.idempotency_key for item in self.items if item.idempotency_key is not None]
        if len(set(keys)) < len(keys):
            raise ValueError("an idempotency_key stands twice in this request")
        return self


@router.post("/bulk-create", permission="run:create", status=202)
async def start_runs(request: Request, body: StartRunsIn) -> BulkOut[RunSummaryOut]:
    """Start many runs. Answers once all are queued, with what became of each."""
    rules, objects, asked = await rules_of(request), objects_of(request), [item.asked() for item in body.items]
    results = await in_unit(request, lambda uow: runs_bulk.start_runs(uow, asked, rules=rules, objects=objects))
    wake_ups_of(request).queued()
    return BulkOut[RunSummaryOut].of([_shown(result) for result in results])


def _shown(result: BulkResult[Run]) -> BulkResult[RunSummaryOut]:
    item = None if result.item is None else RunSummaryOut.model_validate(result.item)
    return BulkResult(result.index, result.status, item, result.code, result.detail, result.errors)
