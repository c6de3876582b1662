"""`remit hosts`: where agents may send something."""

from typing import Annotated

import typer
from rich.markup import escape

from remit_cli.edge import Edge
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_json, print_table

app = typer.Typer(help="The hosts that agents may name; others fail the scan of a version.", no_args_is_help=True)
COLUMNS = ("host", "id", "created_by", "created_at")
Host = Annotated[str, typer.Argument(metavar="HOST", help="agents.example.com, or *.example.com for all below.")]


@app.command("allow", epilog="Example: remit hosts allow '*.example.com'")
def allow(host: Host, as_json: Json = False) -> None:  # noqa: FBT002
    """Let agents name a host; the first one makes every host that is not in the list an unknown one."""
    made = ask(lambda edge: edge.post("/v1/allowed-hosts", {"host": host}))
    if as_json:
        print_json(made)
    else:
        console().print(f"agents may name [bold]{escape(made['host'])}[/]")


@app.command("list")
def show_all(limit: Limit = 50, as_json: Json = False) -> None:  # noqa: FBT002
    """List them, newest first."""
    items = ask(lambda edge: edge.items("/v1/allowed-hosts", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no list: agents may name any host")


@app.command("remove")
def remove(host: Host) -> None:
    """Take a host from the list; versions that name it run on, new ones fail their scan."""

    async def do(edge: Edge) -> None:
        found = await edge.get("/v1/allowed-hosts", host=host, limit=1)
        if not found["items"]:
            raise typer.BadParameter(f"{host} is not in the list")
        await edge.delete(f"/v1/allowed-hosts/{found['items'][0]['id']}")

    ask(do)
    console().print(f"{escape(host)} is no longer in the list")
