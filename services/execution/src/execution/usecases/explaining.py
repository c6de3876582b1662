"""Execution's part of explaining a run: who asked, which rule allowed it, what ran, what it cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select

from chassis.objects import Objects
from chassis.telemetry import trace_id
from chassis.uow import UnitOfWork
from execution.tables.runs import Run, Step
from execution.usecases.hindrances import Hindrance, find_hindrance
from execution.usecases.runs import get_run
from execution.usecases.steps import steps_of

MAX_CHILDREN = 1_000


class Explanation(NamedTuple):
    """A run with everything execution knows of it."""

    run: Run
    steps: list[Step]
    costs: list[dict[str, Any]]
    children: list[Run]
    """The runs that its steps are, in the order they were started; at most 1,000."""
    hindrance: Hindrance | None
    """What it waits for, where it is queued."""

    @property
    def trigger(self) -> dict[str, Any]:
        """What set it off."""
        run = self.run
        return {
            "type": run.trigger_type,
            "triggered_by": run.triggered_by,
            "queued_at": run.queued_at,
            "schedule_id": run.schedule_id,
            "tick_at": run.tick_at,
            "parent_run_id": run.parent_run_id,
            "root_run_id": run.root_run_id,
            "forked_from": run.forked_from,
            "correlation_id": run.correlation_id or None,
        }

    @property
    def version(self) -> dict[str, Any]:
        """What exactly ran."""
        run = self.run
        return {"id": run.version_id, "semver": run.semver, "digest": run.config_digest, "agents": run.pins}

    @property
    def decision(self) -> dict[str, Any]:
        """Which rule allowed it."""
        return {"id": self.run.decision_id, **self.run.decision}

    @property
    def trace_id(self) -> str | None:
        """The trace that leads through every service."""
        return trace_id(self.run.traceparent) or None


async def explain_run(uow: UnitOfWork, run_id: UUID, *, objects: Objects) -> Explanation:
    """Everything execution knows of a run."""
    run = await get_run(uow, run_id)
    steps = await steps_of(uow, run)
    children = await _children_of(uow, run) if any(step.child_run_id for step in steps) else []
    return Explanation(run, steps, cost_lines(steps), children, await find_hindrance(uow, run, objects))


async def _children_of(uow: UnitOfWork, run: Run) -> list[Run]:
    of = (Run.organization_id == run.organization_id) & (Run.parent_run_id == run.id)
    return list(await uow.all(select(Run).where(of).order_by(Run.id).limit(MAX_CHILDREN)))


def cost_lines(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """What was spent, per model and price: the attempts' sums, those that failed included."""
    lines: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for step in steps:
        if step.input_tokens or step.output_tokens or step.cost_usd_micros:
            line = lines[step.provider, step.model_name, step.price_version]
            for at, value in enumerate((1, step.input_tokens, step.output_tokens, step.cost_usd_micros)):
                line[at] += value
    names = ("attempts", "input_tokens", "output_tokens", "cost_usd_micros")
    return [
        {"provider": provider, "model_name": model, "price_version": price, **dict(zip(names, line, strict=True))}
        for (provider, model, price), line in sorted(lines.items())
    ]
