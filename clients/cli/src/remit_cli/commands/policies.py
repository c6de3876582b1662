"""`remit policies`: rules, from files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from remit_cli.commands.definitions import read_file
from remit_cli.edge import Edge
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_json, print_table

app = typer.Typer(help="Rules on who may do what.", no_args_is_help=True)
COLUMNS = ("name", "policy_type", "priority", "is_enabled", "revision", "id", "updated_at")


@app.command("list")
def show_all(limit: Limit = 50, as_json: Json = False) -> None:  # noqa: FBT002
    """List policies."""
    items = ask(lambda edge: edge.items("/v1/policies", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no policies: the system role matrix decides")


@app.command("apply", epilog="Example: remit policies apply rules.yaml --type abac --priority 200")
def apply(
    file: Annotated[Path, typer.Argument(help="A document of rules.")],
    name: Annotated[str | None, typer.Option(help="Its name; without, the file's.")] = None,
    policy_type: Annotated[str, typer.Option("--type", help="rbac, abac or budget.")] = "abac",
    priority: Annotated[int, typer.Option(help="Higher is asked first; the role matrix stands at 0.")] = 100,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Save a document of rules under its name; it holds everywhere within two seconds."""
    wanted = {"rules_yaml": read_file(file), "priority": priority}
    called = name or file.name.partition(".")[0]

    async def do(edge: Edge) -> tuple[str, dict[str, Any]]:
        for row in await edge.items("/v1/policies", limit=10_000):
            if row["name"] != called:
                continue
            if all(row[field] == value for field, value in wanted.items()):
                return "unchanged", row
            return "changed", await edge.patch(f"/v1/policies/{row['id']}", wanted, version=row["version"])
        return "created", await edge.post("/v1/policies", {"name": called, "policy_type": policy_type, **wanted})

    what, row = ask(do)
    if as_json:
        print_json({"policy": row, "changed": what})
    else:
        console().print(f"policy [bold]{called}[/] revision {row['revision']}: {what}")
