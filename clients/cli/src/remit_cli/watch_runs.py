"""All runs as they change: a live table on a terminal, a line for each change elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from remit_cli.edge import Edge, Event
from remit_cli.failures import UnreachableError
from remit_cli.options import id_of
from remit_cli.show import console, dollars
from remit_cli.watch import FINAL, MARKS

ROWS = 20
PATH = "/v1/runs/events"
LONGEST_SECONDS = 3600.0
_RECONNECTS, _PAUSE_SECONDS = 20, 0.5
_LISTED = {"runId": "id", "threadId": "root_run_id", "status": "status", "waitingFor": "waiting_for",
           "workspaceId": "workspace_id", "executionType": "execution_type", "agentId": "agent_id",
           "orchestrationId": "orchestration_id", "stepCount": "step_count", "inputTokens": "input_tokens",
           "outputTokens": "output_tokens", "costUsdMicros": "cost_usd_micros", "queuedAt": "queued_at",
           "code": "error_code"}  # fmt: skip
"""What an event calls the fields of a run in a list."""


async def watch_runs(edge: Edge, named: Mapping[str, str | None], seconds: float | None) -> None:
    """Show the runs that the caller may see as they change, narrowed to those of what is named, until time is up."""
    wanted = {f"{kind}_id": await id_of(edge, f"/v1/{kind}s", name) for kind, name in named.items() if name}
    out, names = console(), Names(edge)
    table = RunTable()
    with Live(table.shown(), console=out, refresh_per_second=8, transient=not out.is_terminal) as live:
        async for event in _follow(edge, wanted, seconds):
            told = _told_of(event)
            if told.get("name") in ("WATCH_STARTED", "WATCH_RESET"):
                table.begin(await edge.items("/v1/runs", limit=ROWS, **wanted))
                await names.learn(table.runs.values())
            elif "runId" in told:
                await names.learn([table.take(told)])
            else:
                continue
            if out.is_terminal:
                live.update(table.shown(names))
            elif "runId" in told:
                live.console.print(_line(told, names))


async def _follow(edge: Edge, wanted: Mapping[str, str], seconds: float | None) -> AsyncIterator[Event]:
    """Every change, over however many connections it takes."""
    end = None if seconds is None else time.monotonic() + seconds
    last, failures = "", 0
    while end is None or time.monotonic() < end:
        left = LONGEST_SECONDS if end is None else max(0.1, min(LONGEST_SECONDS, end - time.monotonic()))
        try:
            async for event in edge.events(PATH, last, seconds=round(left, 1), **wanted):
                failures, last = 0, event.id or last
                yield event
        except UnreachableError:
            failures += 1
            if failures > _RECONNECTS:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


def _told_of(event: Event) -> dict[str, Any]:
    """What an event says, whether it has a name of its own or one within."""
    value: dict[str, Any] = event.data.get("value", event.data)
    return {**value, "name": event.data.get("name", event.name)}


class Names:
    """What agents and orchestrations are called, each asked for once."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._known: dict[str, str] = {}

    async def learn(self, runs: Any) -> None:
        """Find out what the subjects of these runs are called."""
        for run in list(runs):
            kind, subject = _subject(run)
            if subject and subject not in self._known:
                self._known[subject] = subject[-8:]
                found = await self._edge.items(f"/v1/{kind}s", limit=1, id=subject)
                self._known.update({row["id"]: row["name"] for row in found})

    def of(self, run: Mapping[str, Any]) -> str:
        """The name of a run's subject, or the end of its id."""
        subject = _subject(run)[1]
        return self._known.get(subject, subject[-8:])


def _subject(run: Mapping[str, Any]) -> tuple[str, str]:
    kind = "orchestration" if run.get("orchestrationId") else "agent"
    return kind, str(run.get(f"{kind}Id") or "")


class RunTable:
    """The runs that changed last, the newest above."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def begin(self, listed: list[dict[str, Any]]) -> None:
        """What there is now."""
        for row in reversed(listed):
            self.take({name: row.get(column) for name, column in _LISTED.items()})

    def take(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Take up what a run has become; returns the run."""
        run = {**self.runs.pop(told["runId"], {}), "waitingFor": None, **told}
        self.runs[told["runId"]] = run
        while len(self.runs) > ROWS:
            over = (run_id for run_id, each in self.runs.items() if each["status"] in FINAL)
            del self.runs[next(over, next(iter(self.runs)))]
        return run

    def shown(self, names: Names | None = None) -> Table:
        """What to draw."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("run", "what", "status", "steps", "tokens", "cost", "queued at"):
            table.add_column(heading, no_wrap=True)
        for run in reversed(self.runs.values()):
            tokens = str((run.get("inputTokens") or 0) + (run.get("outputTokens") or 0))
            queued, what = str(run.get("queuedAt") or "")[11:19], escape(names.of(run) if names else "")
            cost = dollars(run.get("costUsdMicros") or 0)
            steps = str(run.get("stepCount") or 0)
            table.add_row(str(run["runId"]), what, _status(run), steps, tokens, cost, queued)
        return table


def _status(run: Mapping[str, Any]) -> str:
    status = str(run["status"])
    waiting = f" for {escape(str(run['waitingFor']))}" if run.get("waitingFor") else ""
    wrong = f" [red]{escape(str(run['code']))}[/]" if run.get("code") and status in FINAL else ""
    return f"{MARKS.get(status, '[dim]…[/]')} {escape(status)}{waiting}{wrong}"


def _line(run: Mapping[str, Any], names: Names) -> str:
    return f"{run['runId']}  {escape(names.of(run))}  {_status(run)}"
