"""What happens to an organization's runs, for whoever watches: from the facts, as they are published.

All watchers of a process share one look at the stream, and those of an organization what is read of their runs: without
watchers nothing is read, and while nothing happens nothing is asked of the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from chassis.errors import LimitExceededError, RefusalError
from chassis.permits import Permit
from chassis.uow import UnitOfWork
from contracts.envelope import Envelope
from execution.clients.fact_tail import FactTail, TailedFact
from execution.domain.run_changes import CHANGES, Place, RunChange, place_of, tells_change
from execution.domain.runs import RunStatus
from execution.usecases.run_events import WatchEvent
from spine.fact_message import RawFact

MAX_WATCHERS = 20
"""Of one organization at once, in each process that serves the door."""
PACE_SECONDS = 0.25
"""What happens within this time is told together: one question to the database for all of it."""
BATCH = 200
MAX_KNOWN = 1_000
"""Runs of an organization that a process remembers having read."""
RunRow: TypeAlias = Mapping[str, Any]

_COLUMNS = (
    "id", "workspace_id", "execution_type", "agent_id", "orchestration_id", "semver", "trigger_type", "triggered_by",
    "created_by", "status", "waiting_for", "priority", "error_code", "error_message", "stop_reason", "step_count",
    "input_tokens", "output_tokens", "cost_usd_micros", "parent_run_id", "root_run_id", "queued_at", "started_at",
    "completed_at",
)  # fmt: skip
_READ = f"select {', '.join(_COLUMNS)} from run where organization_id = $1 and id = any($2::uuid[])"  # noqa: S608
_TOLD = {
    "workspaceId": "workspace_id", "executionType": "execution_type", "agentId": "agent_id",
    "orchestrationId": "orchestration_id", "semver": "semver", "triggerType": "trigger_type",
    "triggeredBy": "triggered_by", "queuedAt": "queued_at", "startedAt": "started_at", "stepCount": "step_count",
    "inputTokens": "input_tokens", "outputTokens": "output_tokens", "costUsdMicros": "cost_usd_micros",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Which runs a watcher wants; None: any."""

    workspace_id: UUID | None = None
    agent_id: UUID | None = None
    orchestration_id: UUID | None = None

    def wants(self, run: RunRow) -> bool:
        """Whether this run is one of them."""
        wanted = (("workspace_id", self.workspace_id), ("agent_id", self.agent_id),
                  ("orchestration_id", self.orchestration_id))  # fmt: skip
        return all(value is None or run[name] == value for name, value in wanted)


class RunFeed:
    """Where watchers of organizations' runs meet the facts."""

    def __init__(self, tail: FactTail) -> None:
        self._tail = tail
        tail.listen = self._heard
        self._watchers: dict[bytes, set[RunWatcher]] = {}

    def require_room(self, organization_id: UUID) -> None:
        """LimitExceededError `too_many_watchers` where the organization has 20 already."""
        if len(self._watchers.get(_text(organization_id), ())) >= MAX_WATCHERS:
            detail = f"An organization may watch its runs {MAX_WATCHERS} times at once."
            raise LimitExceededError(detail, code="too_many_watchers")

    @contextlib.asynccontextmanager
    async def watched(self, organization_id: UUID, last_event_id: str) -> AsyncIterator[RunWatcher]:
        """Watch an organization's runs during this block, from where the id says."""
        text = _text(organization_id)
        watchers = self._watchers.setdefault(text, set())
        known = next((other.known for other in watchers), None) or KnownRuns()
        watcher = RunWatcher(self._tail, text, last_event_id, known)
        watchers.add(watcher)
        try:
            async with self._tail.wanted():
                yield watcher
        finally:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(text, None)

    async def close(self) -> None:
        """Let go of the stream."""
        await self._tail.close()

    def _heard(self, fact: RawFact | None) -> None:
        woken: Iterable[set[RunWatcher]] = self._watchers.values()
        if fact is not None:
            woken = (self._watchers.get(fact.organization_text, set()),)
        for watchers in woken:
            for watcher in watchers:
                watcher.stir.set()


@dataclass(eq=False, slots=True)
class RunWatcher:
    """One watcher: where it stands, and what it has not been told yet."""

    tail: FactTail
    organization: bytes
    last_event_id: str
    known: KnownRuns
    stir: asyncio.Event = field(default_factory=asyncio.Event)
    place: Place | None = None
    """None until the stream has been found."""
    position: int = 0
    is_behind: bool = False
    """Whether there may be more to take at once."""

    def begin(self) -> WatchEvent | None:
        """Take up where it was, once the stream is there: the event that says from where on it is told everything."""
        if not self.tail.is_ready:
            return None
        asked = place_of(self.last_event_id)
        known = asked is not None and self.tail.since_ms <= asked.at_ms <= self.tail.heard_ms
        name = "WATCH_RESUMED" if known else "WATCH_RESET" if self.last_event_id else "WATCH_STARTED"
        self.place = asked if asked is not None and known else Place(self.tail.heard_ms, 0, 0)
        self.position = self.tail.first if known else self.tail.end
        return _told_place(self.place, name)

    def take(self) -> list[TailedFact] | None:
        """The organization's facts since it last took some, up to 200; None when it has missed some."""
        if self.position < self.tail.first:
            self.place, self.position = Place(self.tail.heard_ms, 0, 0), self.tail.end
            return None
        taken: list[TailedFact] = []
        for tailed in self.tail.since(self.position):
            self.position += 1
            if tailed.fact.organization_text == self.organization and self._is_new(tailed.fact):
                taken.append(tailed)
                self.place = _place_of(tailed)
                if len(taken) == BATCH:
                    break
        self.is_behind = len(taken) == BATCH
        return taken

    def reset(self) -> WatchEvent:
        """The event for whoever has missed something: what is now has to be listed."""
        return _told_place(self.place or Place(self.tail.heard_ms, 0, 0), "WATCH_RESET")

    def stand(self) -> str:
        """An id that stays good while nothing happens to the organization's runs."""
        if self.place is None:
            return ""
        if self.position == self.tail.end:
            self.place = self.place._replace(at_ms=max(self.place.at_ms, self.tail.heard_ms))
        return str(self.place)

    def _is_new(self, fact: RawFact) -> bool:
        return self.place is None or _number_of(fact) > self.place[1:]


class KnownRuns:
    """An organization's runs as they were last read, each good for every fact that had been published by then."""

    def __init__(self) -> None:
        self._rows: OrderedDict[UUID, tuple[tuple[int, int], RunRow]] = OrderedDict()
        self._reading = asyncio.Lock()

    async def of(
        self, facts: Sequence[TailedFact], read: Callable[[list[UUID]], Awaitable[Mapping[UUID, RunRow]]]
    ) -> dict[UUID, RunRow]:
        """The runs that these facts are about, read only where no other watcher has done so."""
        found: dict[UUID, RunRow] = {}
        async with self._reading:
            wanted = {_run_of(each.fact): _number_of(each.fact) for each in facts}
            missing = [run_id for run_id, number in wanted.items() if not self._knows(run_id, number)]
            if missing:
                newest = max(wanted.values())
                for run_id, row in (await read(missing)).items():
                    self._rows[run_id] = (newest, row)
            for run_id in wanted:
                if run_id in self._rows:
                    self._rows.move_to_end(run_id)
                    found[run_id] = self._rows[run_id][1]
            while len(self._rows) > MAX_KNOWN:
                self._rows.popitem(last=False)
        return found

    def _knows(self, run_id: UUID, number: tuple[int, int]) -> bool:
        return run_id in self._rows and self._rows[run_id][0] >= number


def changes_kept(fact: RawFact) -> bool:
    """Whether a fact is of interest to anybody who watches runs."""
    return tells_change(fact.type, fact.body)


async def read_runs(uow: UnitOfWork, ids: list[UUID]) -> dict[UUID, RunRow]:
    """These runs of the organization, without what went in and came out."""
    rows = await uow.fetch(_READ, uow.organization_id, ids)
    return {UUID(int=row["id"].int): dict(row) for row in rows}


def changes_of(
    facts: Sequence[TailedFact], runs: Mapping[UUID, RunRow], permit: Permit, wanted: Narrowed
) -> list[WatchEvent]:
    """The events that these facts are for whoever has this permit: of runs that it may see and wants, in order."""
    seen = {run_id: run for run_id, run in runs.items() if wanted.wants(run) and _may_see(permit, run)}
    events = []
    for each in facts:
        run, change = seen.get(_run_of(each.fact)), CHANGES[each.fact.type]
        if run is None or (change.status is None and run["status"] == RunStatus.WAITING):
            continue
        events.append(_event(_place_of(each), change, run))
    return events


def _run_of(fact: RawFact) -> UUID:
    return UUID(str(Envelope.parse(fact.body).data["run_id"]))


def _number_of(fact: RawFact) -> tuple[int, int]:
    return fact.epoch, fact.organization_sequence


def _place_of(tailed: TailedFact) -> Place:
    return Place(tailed.at_ms, *_number_of(tailed.fact))


def _text(organization_id: UUID) -> bytes:
    return str(organization_id).encode()


def _may_see(permit: Permit, run: RunRow) -> bool:
    attributes = {name: str(value) if isinstance(value, UUID) else value for name, value in run.items()}
    try:
        permit.check("run", str(run["id"]), attributes)
    except RefusalError:
        return False
    return True


def _event(place: Place, change: RunChange, run: RunRow) -> WatchEvent:
    status = change.status or run["status"]
    told: dict[str, Any] = {"runId": run["id"], "threadId": run["root_run_id"], "status": status}
    told |= {name: run[column] for name, column in _TOLD.items()}
    if status == RunStatus.WAITING:
        told["waitingFor"] = run["waiting_for"]
    if change.event in ("RUN_FINISHED", "RUN_ERROR"):
        told["completedAt"] = run["completed_at"]
    if change.event == "RUN_ERROR":
        told["code"] = run["error_code"] or run["stop_reason"] or status
        told["message"] = run["error_message"] or f"The run was {status}."
    if change.event == "CUSTOM":
        return WatchEvent(str(place), "CUSTOM", {"name": change.name, "value": told})
    return WatchEvent(str(place), change.event, told)


def _told_place(place: Place, name: str) -> WatchEvent:
    return WatchEvent(str(place), "CUSTOM", {"name": name, "value": {}})
