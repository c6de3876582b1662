"""What somebody who watches a run is told, in the event names of AG-UI, read from the tables.

Each event has an id of its own. Who comes back with the last id it saw is told what came after; because attempts that
end at the same time may be stored in another order, a few seconds before it are told again, under the same ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from execution.domain.nodes import CALL_KINDS, SubrunNode
from execution.domain.runs import FINAL, RunStatus, StepStatus, WaitingFor
from execution.tables.runs import Run, Step
from execution.usecases.hindrances import Hindrance

HEARTBEAT_SECONDS = 15.0
MAX_WATCH_SECONDS = 3600.0
OVERLAP = timedelta(seconds=5)
STARTED_ID = "started"
ENDED_ID = "ended"


class WatchEvent(NamedTuple):
    """One event of a run."""

    id: str
    name: str
    data: dict[str, Any]


def events_of(run: Run, steps: Sequence[Step], hindrance: Hindrance | None = None) -> Iterator[WatchEvent]:
    """Everything there is to tell of a run so far, in order."""
    if run.started_at is not None:
        yield WatchEvent(STARTED_ID, "RUN_STARTED", {"runId": str(run.id), "threadId": str(run.root_run_id)})
    # Steps are read after the run: those of one that has started in between are told once its start is.
    known = steps if run.started_at is not None else ()
    ended = [(step.completed_at, step) for step in known if step.completed_at is not None]
    for _, step in sorted(ended, key=lambda pair: (pair[0], pair[1].step_number, pair[1].attempt)):
        yield WatchEvent(_step_id(step), "STEP_FINISHED", _step_data(step))
    if run.status == RunStatus.WAITING:
        yield _waiting(run, steps)
    if hindrance is not None and hindrance.is_worth_telling:
        yield _queued(run, hindrance)
    if run.status in FINAL:
        yield _ended(run)


def after(event: WatchEvent, last_event_id: str) -> bool:
    """Whether somebody who has seen everything up to `last_event_id` still needs to be told this."""
    if not last_event_id:
        return True
    if last_event_id == ENDED_ID:
        return False
    if event.id in (STARTED_ID, ENDED_ID):
        return event.id == ENDED_ID
    seen = _time_of(last_event_id)
    return event.id != last_event_id and (seen is None or (_time_of(event.id) or seen) > seen - OVERLAP)


def encode(event: WatchEvent) -> bytes:
    """One event as it goes over the wire; JSON holds no line breaks."""
    told = orjson.dumps({"type": event.name, **event.data}, default=str, option=orjson.OPT_UTC_Z)
    return b"".join((b"id: ", event.id.encode(), b"\nevent: ", event.name.encode(), b"\ndata: ", told, b"\n\n"))


def encode_text(piece: Mapping[str, Any]) -> bytes:
    """A piece of what a model writes, as it goes over the wire: without an id, because it cannot be had again."""
    told = {
        "type": "TEXT_MESSAGE_CONTENT", "messageId": f"{piece['node']}.{piece['iteration']}.{piece['attempt']}",
        "stepName": piece["node"], "iteration": piece["iteration"], "attempt": piece["attempt"], "at": piece["at"],
        "delta": piece["text"], "isCut": piece["is_cut"],
    }  # fmt: skip
    return b"".join((b"event: TEXT_MESSAGE_CONTENT\ndata: ", orjson.dumps(told), b"\n\n"))


def _step_id(step: Step) -> str:
    ended = step.completed_at or step.started_at
    return f"{int(ended.timestamp() * 1_000_000)}.{step.node}.{step.iteration}.{step.attempt}"


def _time_of(event_id: str) -> datetime | None:
    micros = event_id.partition(".")[0]
    if not micros.isascii() or not micros.isdigit() or len(micros) > 17:
        return None
    return datetime.fromtimestamp(int(micros) / 1_000_000, UTC)


def _step_data(step: Step) -> dict[str, Any]:
    data = {
        "stepName": step.node,
        "iteration": step.iteration,
        "attempt": step.attempt,
        "status": step.status,
        "inputTokens": step.input_tokens,
        "outputTokens": step.output_tokens,
        "costUsdMicros": step.cost_usd_micros,
    }
    if step.child_run_id:
        data["childRunId"] = str(step.child_run_id)
    if step.error_code:
        data["errorCode"] = step.error_code
    return data


def _waiting(run: Run, steps: Sequence[Step]) -> WatchEvent:
    since = run.waiting_since or run.updated_at
    waiting = [step for step in steps if step.status in (StepStatus.NEEDS_DECISION, StepStatus.WAITING)]
    value = {
        "runId": str(run.id),
        "waitingFor": run.waiting_for,
        "steps": [_waiting_step(step) for step in waiting],
        "approvalId": str(run.decision_id) if run.waiting_for == WaitingFor.APPROVAL and not waiting else None,
    }
    event_id = f"{int(since.timestamp() * 1_000_000)}.waiting"
    return WatchEvent(event_id, "CUSTOM", {"name": "RUN_WAITING", "value": value})


def _queued(run: Run, hindrance: Hindrance) -> WatchEvent:
    """What a queued run waits for; told once for each cause, whatever the numbers are meanwhile."""
    told = {name: str(value) if name == "until" else value for name, value in hindrance.told().items()}
    event_id = f"{int(run.updated_at.timestamp() * 1_000_000)}.queued.{hindrance.reason}"
    return WatchEvent(event_id, "CUSTOM", {"name": "RUN_QUEUED", "value": {"runId": str(run.id), **told}})


def _waiting_step(step: Step) -> dict[str, Any]:
    kind = WaitingFor.DECISION if step.status == StepStatus.NEEDS_DECISION else step.kind
    waiting = {"stepId": str(step.id), "stepName": step.node, "iteration": step.iteration, "waitsFor": kind}
    if kind in CALL_KINDS:
        waiting["waitsFor"] = WaitingFor.STEP
    elif step.kind == SubrunNode.kind:
        waiting |= {"waitsFor": WaitingFor.CHILD, "childRunId": str(step.child_run_id or "")}
    return waiting


def _ended(run: Run) -> WatchEvent:
    data: dict[str, Any] = {"runId": str(run.id), "threadId": str(run.root_run_id), "status": run.status}
    if run.status == RunStatus.COMPLETED:
        return WatchEvent(ENDED_ID, "RUN_FINISHED", data)
    data["code"] = run.error_code or run.stop_reason or run.status
    data["message"] = run.error_message or f"The run was {run.status}."
    return WatchEvent(ENDED_ID, "RUN_ERROR", data)
