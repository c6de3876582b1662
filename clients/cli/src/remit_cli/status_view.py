"""How the Remit of a data folder does, for a person."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from remit_cli.show import console
from remit_local.presence import status

STOPPED = "stopped"
_COLOURS = {"ready": "green", "done": "green", "crash_loop": "red", "restarting": "yellow"}


def status_of(folder: Path) -> dict[str, Any]:
    """Return the state of a data folder's platform and of its processes."""
    running = status(folder)
    if running is None:
        return {"state": STOPPED, "data": str(folder), "children": {}}
    return {
        "state": running.state,
        "data": str(folder),
        "pid": running.pid,
        **running.details,
        "children": running.children,
    }


def print_status(found: dict[str, Any]) -> None:
    """Print it."""
    if found["state"] == STOPPED:
        console().print(f"Remit is not running in {found['data']}; `remit up` starts it")
        return
    mode = "one process per service and role" if found.get("processes") else "one process for all services"
    edge = found.get("edge", "an edge that is not there yet")
    console().print(f"Remit is [bold]{found['state']}[/] at [bold]{edge}[/] ({mode}, pid {found['pid']})")
    for name, child in found["children"].items():
        colour = _COLOURS.get(child["state"], "dim")
        restarts = f", restarted {child['restarts']} times" if child["restarts"] else ""
        trouble = f"  [red]{escape(child['trouble'])}[/]" if child["trouble"] else ""
        console().print(f"  {name:10} [{colour}]{child['state']}[/][dim]{restarts}[/]{trouble}")
