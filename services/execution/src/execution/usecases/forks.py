"""Forks: a run that goes on from a step of another, and how the two compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from chassis.errors import ConflictError
from chassis.ids import new_id
from chassis.objects import Objects, keep_payload, read_payload
from chassis.rules import Rules
from chassis.uow import UnitOfWork
from execution.domain.forks import Ended, StepDifference, differences
from execution.tables.runs import Run, Step
from execution.usecases.idempotency import find_earlier_run, remember_run, request_digest
from execution.usecases.run_subjects import Kind, find_subject
from execution.usecases.runs import RunRequest, announce_run, prepare_run
from execution.usecases.steps import steps_before, steps_of
from execution.usecases.subscriptions import count_run

_COPIED = (
    "node", "iteration", "attempt", "step_number", "kind", "effects", "agent_id", "agent_version_id", "agent_semver",
    "status", "error_code", "error_message", "provider", "model_name", "price_version", "started_at", "completed_at",
    "child_run_id",
)  # fmt: skip
"""What a kept step takes from the original; not what it used: that was spent once, and not by this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """From where a run is to be done again, and what is to be different."""

    from_step: str
    from_iteration: int = 0
    input: Any = None
    has_input: bool = False
    semver: str | None = None
    """None: the version that the original ran, with the agents it had pinned."""
    allow_writes: bool = False


class Comparison(NamedTuple):
    """A fork beside the run it comes from."""

    original: Run
    fork: Run
    outputs: tuple[Any, Any]
    steps: list[StepDifference]


async def fork_run(
    uow: UnitOfWork,
    run_id: UUID,
    request: ForkRequest,
    *,
    rules: Rules,
    objects: Objects,
    idempotency_key: str | None = None,
) -> Run:
    """Queue a run that has behind it what the original had done before a step, and goes on from there.

    It is decided on, limited and counted as any run. Writes are played from the original's record unless
    `allow_writes`. InvalidError `unknown_step` where the original never came to that step.
    """
    digest = request_digest(asdict(request) | {"run_id": run_id}) if idempotency_key is not None else b""
    if idempotency_key is not None and (earlier := await find_earlier_run(uow, idempotency_key, digest)):
        return await uow.get(Run, earlier)
    original = await uow.get(Run, run_id)
    kept = await steps_before(uow, original, request.from_step, request.from_iteration)
    run = await _prepare(uow, original, request, rules=rules, objects=objects)
    if idempotency_key is not None:
        await remember_run(uow, idempotency_key, digest, run.id)
    await uow.add(run)
    await uow.add_all([await _copy(uow, run, step, objects) for step in kept])
    announce_run(uow, run)
    await count_run(uow)
    return run


async def compare_run(uow: UnitOfWork, run_id: UUID, *, objects: Objects) -> Comparison:
    """A fork beside its original: outputs, cost, time, and step by step what is different.

    ConflictError `not_a_fork` for any other run.
    """
    fork = await uow.get(Run, run_id)
    if fork.forked_from is None:
        raise ConflictError("This run is no fork: there is nothing to compare it with.", code="not_a_fork")
    original = await uow.get(Run, fork.forked_from)
    ends = [await _ends(await steps_of(uow, run), objects) for run in (original, fork)]
    outputs = [await read_payload(run.output, run.output_ref, objects) for run in (original, fork)]
    return Comparison(original, fork, (outputs[0], outputs[1]), differences(*ends))


async def _prepare(
    uow: UnitOfWork, original: Run, request: ForkRequest, *, rules: Rules, objects: Objects
) -> Run:  # fmt: skip
    kind: Kind = "agent" if original.agent_id else "orchestration"
    value = request.input
    if not request.has_input:
        value = await read_payload(original.input, original.input_ref, objects)
    reference, semver = str(original.agent_id or original.orchestration_id), request.semver or original.semver
    subject = await find_subject(uow, kind, reference, workspace=None, semver=semver)
    asked = RunRequest(kind=kind, reference=reference, input=value, semver=semver, trigger_type="fork")
    run = await prepare_run(uow, subject, asked, rules=rules, objects=objects)
    if run.version_id == original.version_id:
        run.pins = original.pins
    run.forked_from, run.plays_writes = original.id, not request.allow_writes
    return run


async def _copy(uow: UnitOfWork, run: Run, step: Step, objects: Objects) -> Step:
    copy = Step(**{name: getattr(step, name) for name in _COPIED})
    copy.organization_id, copy.retention_class, copy.run_id = run.organization_id, run.retention_class, run.id
    copy.id, copy.copied_from, copy.token, copy.will_retry, copy.child_told = new_id(), step.id, 0, False, True
    copy.input_tokens = copy.output_tokens = copy.cost_usd_micros = 0
    copy.created_at, copy.updated_at, copy.version = uow.now, uow.now, 1
    copy.input, copy.input_ref = await _again(step.input, step.input_ref, run, objects)
    copy.output, copy.output_ref = await _again(step.output, step.output_ref, run, objects)
    return copy


async def _again(
    inline: bytes | None, reference: str | None, run: Run, objects: Objects
) -> tuple[bytes | None, str | None]:  # fmt: skip
    """The payload as the fork's own: the original's objects go when the original goes."""
    if reference is None:
        return inline, None
    return await keep_payload(objects, run.organization_id, run.id, await read_payload(None, reference, objects))


async def _ends(steps: Sequence[Step], objects: Objects) -> list[Ended]:
    """The last attempt at each step."""
    last = {(step.node, step.iteration): step for step in steps}
    return [
        Ended(
            step.node,
            step.iteration,
            step.status,
            await read_payload(step.output, step.output_ref, objects),
            step.copied_from is not None,
        )
        for step in last.values()
    ]


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
