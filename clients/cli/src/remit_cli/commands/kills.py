"""`remit kill`: stop everything of an organization, workspace, agent, version or run."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape

from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_json, print_table

app = typer.Typer(help="Stop everything of something within a second, until it is released.", no_args_is_help=True)
COLUMNS = ("id", "scope", "target_id", "reason", "created_at", "released_at")


class Scope(StrEnum):
    """What everything is stopped of."""

    ORGANIZATION = "organization"
    WORKSPACE = "workspace"
    AGENT = "agent"
    VERSION = "version"
    RUN = "run"


@app.command(
    "engage",
    epilog="Examples: remit kill engage agent 0198… --reason 'spends without end'; remit kill engage organization",
)
def engage(
    scope: Annotated[Scope, typer.Argument(help="What to stop everything of.")],
    target: Annotated[str | None, typer.Argument(metavar="ID", help="Its id; not needed for the organization.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit log.")] = "",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Stop all runs of something, and let none start; engaging it again changes nothing."""
    body = {"scope": scope.value, "target_id": target, "reason": reason}
    _show(ask(lambda edge: edge.post("/v1/kill-switches", body)), as_json=as_json)


@app.command("get")
def show_one(switch_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:  # noqa: FBT002
    """Show a switch and what it has stopped so far."""
    _show(ask(lambda edge: edge.get(f"/v1/kill-switches/{switch_id}")), as_json=as_json)


@app.command("list")
def show_all(limit: Limit = 20, as_json: Json = False) -> None:  # noqa: FBT002
    """List switches, engaged and released, newest first."""
    items = ask(lambda edge: edge.items("/v1/kill-switches", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no kill switches")


@app.command("release")
def release(switch_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:  # noqa: FBT002
    """Let runs of it start again; what was stopped stays stopped."""
    _show(ask(lambda edge: edge.post(f"/v1/kill-switches/{switch_id}/release", {})), as_json=as_json)


def _show(switch: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(switch)
        return
    state = "released" if switch["released_at"] else "engaged"
    console().print(f"kill switch [bold]{switch['id']}[/] of {switch['scope']} {switch['target_id']}: {state}")
    console().print(f"{switch['stopped']} runs stopped, {switch['stopping']} stopping")
    if left := switch["calls_left"]:
        console().print(f"{len(left)} calls had left already: {escape(', '.join(left[:5]))}")
    if not switch["released_at"]:
        console().print(f"[dim]remit kill release {switch['id']}[/]")
