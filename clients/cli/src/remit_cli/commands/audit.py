"""`remit audit`: what happened."""

from typing import Annotated

import typer

from remit_cli.options import Json, Limit, ask
from remit_cli.show import print_json, print_table

app = typer.Typer(help="The audit log.", no_args_is_help=True)
COLUMNS = ("timestamp", "event_type", "actor_id", "resource_id", "result")


@app.callback()
def _group() -> None:
    """Read the audit log."""


@app.command("list", epilog="Example: remit audit list --run 01a2… --json")
def show_all(
    run_id: Annotated[str | None, typer.Option("--run", help="Only a run's.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only facts of this type.")] = None,
    limit: Limit = 50,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List entries, newest first."""
    items = ask(lambda edge: edge.items("/v1/audit-entries", limit=limit, run_id=run_id, event_type=event_type))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no entries")
