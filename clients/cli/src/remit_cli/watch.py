"""A run's steps as they happen: a live tree on a terminal, a line for each change elsewhere."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text
from rich.tree import Tree

from remit_cli.edge import Edge, Event
from remit_cli.failures import UnreachableError
from remit_cli.show import console, dollars

MARKS = {
    "completed": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "cancelled": "[yellow]■[/]",
    "timed_out": "[red]⧖[/]",
    "needs_decision": "[yellow]?[/]",
}
FINAL = frozenset({"completed", "failed", "cancelled", "timed_out"})
_RECONNECTS = 20
SHOWN_CHARACTERS = 600
"""Of a text that is being written: its end."""


async def watch_run(edge: Edge, run: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Show the steps of a run until it is over; returns the run as it ended."""
    out = console()
    tree = StepTree(f"[bold]{escape(title)}[/]  [dim]{run['id']}[/]")
    with Live(tree.shown(), console=out, refresh_per_second=8, transient=not out.is_terminal) as live:
        async for event in follow(edge, run["id"]):
            line = tree.take(event)
            if out.is_terminal:
                live.update(tree.shown())
            elif line:
                live.console.print(line)
    found: dict[str, Any] = await edge.get(f"/v1/runs/{run['id']}")
    return found


async def follow(edge: Edge, run_id: str) -> AsyncIterator[Event]:
    """Yield the events of a run, each once, over however many connections it takes."""
    seen: set[str] = set()
    last, failures = "", 0
    while failures <= _RECONNECTS:
        try:
            async for event in edge.events(f"/v1/runs/{run_id}/events", last):
                failures = 0
                if not event.id:
                    yield event  # what is told once and not again
                elif event.id not in seen:
                    seen.add(event.id)
                    last = event.id
                    yield event
                if event.name in ("RUN_FINISHED", "RUN_ERROR"):
                    return
        except UnreachableError:
            if failures == _RECONNECTS:
                raise
        failures += 1


class WrittenText(NamedTuple):
    """What a step's model has written so far, as far as it was heard."""

    attempt: int = 0
    end: int = 0
    """After how many characters the next piece goes."""
    text: str = ""

    def grown(self, piece: Mapping[str, Any]) -> "WrittenText":
        """The text with another piece; a piece of another attempt, or from the start, begins anew."""
        at, more = piece["at"], piece["delta"]
        is_next = piece["attempt"] == self.attempt and at > 0
        missed = "" if at == (self.end if is_next else 0) else "… "
        text = (self.text if is_next else "") + missed + more
        return WrittenText(piece["attempt"], at + len(more), text + (" …" if piece["isCut"] else ""))

    def shown(self) -> Text:
        """Its end, as it stands."""
        over = len(self.text) > SHOWN_CHARACTERS
        return Text(("…" if over else "") + self.text[-SHOWN_CHARACTERS:], style="dim")


class StepTree:
    """What is known of a run's steps so far, and what is being written in them."""

    def __init__(self, title: str) -> None:
        self._tree = Tree(title)
        self._over = False
        self._texts: dict[tuple[str, int], WrittenText] = {}

    def take(self, event: Event) -> str:
        """Take in an event; returns it as a line of text, empty when it is nothing to show."""
        line, told = _line(event), event.data
        if line:
            self._tree.add(line)
        if event.name == "TEXT_MESSAGE_CONTENT":
            key = told["stepName"], told["iteration"]
            self._texts[key] = self._texts.get(key, WrittenText()).grown(told)
        elif event.name == "STEP_FINISHED":
            self._texts.pop((told["stepName"], told.get("iteration", 0)), None)
        self._over = self._over or event.name in ("RUN_FINISHED", "RUN_ERROR")
        return line

    def shown(self) -> RenderableType:
        """Return what to draw: the steps, and something that moves while there are more to come."""
        drawn = Tree(self._tree.label)
        drawn.children = list(self._tree.children)
        for (node, iteration), text in self._texts.items() if not self._over else ():
            drawn.add(f"[dim]…[/] [bold]{escape(step_name(node, iteration))}[/]").add(text.shown())
        if not self._over:
            drawn.add(Spinner("dots", "[dim]working[/]"))
        return drawn


def _line(event: Event) -> str:
    told = event.data
    if event.name == "STEP_FINISHED":
        return step_line(
            step_name(told["stepName"], told.get("iteration", 0)),
            told["status"],
            tokens=told["inputTokens"] + told["outputTokens"],
            cost_usd_micros=told["costUsdMicros"],
            attempt=told["attempt"],
            error=told.get("errorCode", ""),
        )
    if event.name == "CUSTOM" and told.get("name") == "RUN_WAITING":
        return _waiting_lines(told["value"])
    if event.name == "CUSTOM" and told.get("name") == "RUN_QUEUED":
        return f"[yellow]queued[/]: {escape(hindrance_text(told['value']))}"
    if event.name == "RUN_FINISHED":
        return "[green]completed[/]"
    if event.name == "RUN_ERROR":
        return f"[red]{escape(str(told.get('status', 'failed')))}[/] {escape(str(told.get('message', '')))}"
    return ""


_NOUNS = {
    "approval": "an approval",
    "signal": "a signal",
    "timer": "its time",
    "decision": "a decision",
    "child": "a child run",
    "step": "a long call",
}
_ASKS = {
    "decision": (
        "nobody knows whether {name} happened",
        "remit runs decide {run} {step} --outcome completed|failed|retry",
    ),
    "approval": ("{name} needs somebody's approval", "remit approvals approve {step}"),
    "signal": ("{name} waits for a signal", "remit runs signal {run} {node}"),
    "timer": ("{name} waits for its time", ""),
    "child": ("{name} is a run of its own", "remit runs watch {child}"),
    "step": ("{name} is under way, and its run holds no place meanwhile", ""),
}
"""What a step waits for, and what somebody can type about it."""


def _waiting_lines(told: Mapping[str, Any]) -> str:
    """What a run waits for, and the command that lets it go on."""
    lines = [f"[yellow]waiting[/] for {_NOUNS.get(told['waitingFor'], escape(str(told['waitingFor'])))}"]
    if told.get("approvalId"):
        command = f"remit approvals approve {told['approvalId']}"
        lines.append(f"it may not start before somebody has approved: [dim]{escape(command)}[/]")
    for step in told["steps"]:
        name = f"[bold]{escape(step_name(step['stepName'], step['iteration']))}[/]"
        what, command = _ASKS.get(step["waitsFor"], _ASKS["decision"])
        asked = what.format(name=name)
        child = step.get("childRunId", "")
        command = "" if step["waitsFor"] == "child" and not child else command  # it is being started
        typed = command.format(run=told["runId"], step=step["stepId"], node=step["stepName"], child=child)
        lines.append(f"{asked}: [dim]{escape(typed)}[/]" if typed else asked)
    return "\n".join(lines)


_TURN = "it waits for its turn"
_WHY = {
    "worker": "it waits for a worker",
    "turn": _TURN,
    "workspace limit": "its workspace runs {under_way} of {limit} at once",
    "concurrency": "{under_way} of {limit} run at once{of}",
    "rate": "{limit} may start in {seconds} s{of}; the next at {until}",
    "kill switch": "a kill switch stops it",
    "workspace draining": "its workspace is draining and takes no new runs: remit workspaces resume",
}
"""What a queued run waits for, as a person reads it."""


def hindrance_text(found: Mapping[str, Any]) -> str:
    """Say what a queued run waits for."""
    reason = str(found.get("reason", ""))
    if reason not in _WHY:
        return f"its {reason.partition(' ')[0]} is {reason.partition(' ')[2]}" if " " in reason else _TURN
    of = f" of the key {found['key']}" if found.get("key") else ""
    told = {"under_way": "?", "limit": "?", "seconds": "?", **found, "of": of}
    return _WHY[reason].format_map(told | {"until": str(found.get("until") or "")[:19].replace("T", " ")})


def step_name(node: str, iteration: int) -> str:
    """Return what a step is called: its node, and from the second time round or item on its number."""
    return f"{node} #{iteration + 1}" if iteration else node


def step_line(
    name: str, status: str, *, tokens: int, cost_usd_micros: int, attempt: int = 1, error: str = "", note: str = ""
) -> str:
    """Return one attempt at a step as a line."""
    again = f" [dim]attempt {attempt}[/]" if attempt > 1 else ""
    wrong = f" [red]{escape(error)}[/]" if error else ""
    more = f"  [dim]{escape(note)}[/]" if note else ""
    mark = MARKS.get(status, "[dim]…[/]")
    used = f"  {tokens} tokens  {dollars(cost_usd_micros)}" if tokens or cost_usd_micros else ""
    return f"{mark} [bold]{escape(name)}[/]{again}{wrong}{used}{more}"
