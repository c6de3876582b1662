"""One answer of four services' parts: a part that is not whole yet is null and named in `pending`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FINAL = frozenset(("completed", "failed", "cancelled", "timed_out"))
_ENDS = frozenset(f"execution.run.{status}.v" for status in FINAL)
_OWN = ("run", "trigger", "caller", "decision", "version", "steps", "children")


@dataclass(frozen=True, slots=True)
class Part:
    """What another service knows of the run: its items, or why there are none."""

    items: Sequence[Mapping[str, Any]] = ()
    is_here: bool = True
    """False: the service did not answer."""
    is_withheld: bool = False
    """True: this caller may not see it."""


def compose(execution: Mapping[str, Any], approvals: Part, usage: Part, entries: Part) -> dict[str, Any]:
    """The explanation of a run: execution's account, whom policy asked, what billing booked, what audit recorded."""
    explanation: dict[str, Any] = {name: execution.get(name) for name in _OWN}
    parts = {
        "approvals": (approvals, _is_asked(execution, approvals)),
        "costs": (usage, _is_booked(execution, usage)),
        "audit_entries": (entries, _is_recorded(execution, entries)),
    }
    pending, withheld = [], []
    for name, (part, is_whole) in parts.items():
        explanation[name] = list(part.items) if is_whole and not part.is_withheld else None
        if part.is_withheld:
            withheld.append(name)
        elif not is_whole:
            pending.append(name)
    return {**explanation, "trace_id": execution.get("trace_id"), "pending": pending, "withheld": withheld}


def _is_asked(execution: Mapping[str, Any], approvals: Part) -> bool:
    """Policy knows of every step that waits or waited for somebody: a request has its step's id."""
    waited = {step["id"] for step in execution.get("steps") or () if step.get("kind") == "approval"}
    return approvals.is_here and waited <= {request["id"] for request in approvals.items}


def _is_booked(execution: Mapping[str, Any], usage: Part) -> bool:
    """Every attempt that ended is in the ledger: an attempt is booked under its own id, what a fork kept not again."""
    steps = execution.get("steps") or ()
    ended = {step["id"] for step in steps if step.get("completed_at") and not _is_kept(step)}
    return usage.is_here and ended <= {event["id"] for event in usage.items}


def _is_kept(step: Mapping[str, Any]) -> bool:
    return step.get("status") == "skipped" or bool(step.get("copied_from"))


def _is_recorded(execution: Mapping[str, Any], entries: Part) -> bool:
    """The log knows of the run at all and, once the run is over, of its end."""
    if not entries.is_here or not entries.items:
        return False
    if (execution.get("run") or {}).get("status") not in FINAL:
        return True
    return any(str(entry.get("event_type", "")).rstrip("0123456789") in _ENDS for entry in entries.items)
