"""The engine's only brain: what to do next, from a graph and what has ended so far. No clock, no I/O, no memory.

The caller keeps what ended in `completed`, one outcome per step and never changed, and calls again. It stores
`skipped` in the same write as the outcome that caused it: the first decision about a join is then final, and a crash,
a duplicate or a late answer of a branch that no longer counts changes nothing. Where nothing races (`all` joins,
sequences, loops) the result is the same for any order of completions; an `any` or `quorum` join is decided by the
branches that had completed when it was reached, in their declared order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from execution.domain.documents import Json
from execution.domain.graph import Graph
from execution.domain.runs import RunStatus, StepStatus, StopReason
from execution.domain.walk import Outcome, Ready, Result, StepKey, Walk


class Finished(NamedTuple):
    """The end of the run; a run that failed keeps what its steps had produced, by node."""

    status: RunStatus
    output: Json = None
    error_code: str | None = None
    error_node: str | None = None
    stop_reason: StopReason | None = None


class Plan(NamedTuple):
    """What follows: steps to do, the end, and steps to store as skipped (and stop, if they are being done)."""

    ready: tuple[Ready, ...] = ()
    finished: Finished | None = None
    skipped: tuple[StepKey, ...] = ()


def next_work(graph: Graph, input: Json, completed: Mapping[StepKey, Outcome]) -> Plan:
    """What to do next for a run of this graph with this input, of which these steps have ended."""
    at, before = _last_reached(graph, input, completed)
    if at is None:
        return Plan((), Finished(RunStatus.COMPLETED, before))
    walk = Walk(graph, input, completed)
    result = walk.chain(at, 0, before)
    skipped = tuple(walk.skipped)
    if result is not None:
        return Plan((), _end(result, completed), skipped)
    if len(completed) + len(walk.ready) > graph.max_steps and _done(completed) + len(walk.ready) > graph.max_steps:
        reason = StopReason.MAX_STEPS
        left = tuple(StepKey(step.node.id, step.iteration) for step in walk.ready)
        end = Finished(RunStatus.FAILED, partial_output(completed), reason.value, None, reason)
        return Plan((), end, skipped + left)
    return Plan(tuple(walk.ready), None, skipped)


def _last_reached(graph: Graph, input: Json, completed: Mapping[Any, Outcome]) -> tuple[str | None, Json]:
    """Where the main chain stands, found without the machinery that most calls do not need."""
    at: str | None = graph.start
    following, before = graph.following, input
    while at is not None:
        outcome = completed.get((at, 0))
        if outcome is None or outcome.status != StepStatus.COMPLETED:
            break
        before = outcome.output
        at = following[at]
    return at, before


def partial_output(completed: Mapping[StepKey, Outcome]) -> dict[str, Json]:
    """What a run that did not finish had produced: the last output of each node, whatever order they came in."""
    last: dict[str, tuple[int, Json]] = {}
    for (node, iteration), outcome in completed.items():
        if outcome.status == StepStatus.COMPLETED and iteration >= last.get(node, (0, None))[0]:
            last[node] = (iteration, outcome.output)
    return {node: last[node][1] for node in sorted(last)}


def _end(result: Result, completed: Mapping[StepKey, Outcome]) -> Finished:
    if result.status == StepStatus.COMPLETED:
        return Finished(RunStatus.COMPLETED, result.output)
    code = result.error_code or ("step_skipped" if result.status == StepStatus.SKIPPED else "failed")
    return Finished(RunStatus.FAILED, partial_output(completed), code, result.node)


def _done(completed: Mapping[StepKey, Outcome]) -> int:
    return sum(1 for outcome in completed.values() if outcome.status != StepStatus.SKIPPED)
