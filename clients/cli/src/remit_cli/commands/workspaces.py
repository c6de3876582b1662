"""`remit workspaces`: the organization's environments, and letting one run empty."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from remit_cli.edge import Edge
from remit_cli.failures import RefusedError
from remit_cli.options import Json, Limit, ask, id_of
from remit_cli.show import console, print_fields, print_json, print_table

app = typer.Typer(help="Environments of the organization; one can be drained.", no_args_is_help=True)
PATH = "/v1/workspaces"
COLUMNS = ("name", "environment_type", "status", "max_agents", "max_concurrent_executions", "retention_days", "id")
FIELDS = (
    *("id", "name", "environment_type", "description", "status", "max_agents", "max_concurrent_executions"),
    *("promotion_from", "requires_approval", "required_approvers", "pii_allowed", "encryption_required"),
    *("retention_days", "created_at", "updated_at"),
)
OPEN = {"running": "running,cancelling", "waiting": "waiting", "queued": "queued"}
FORBIDDEN = 403
Workspace = Annotated[str, typer.Argument(metavar="NAME", help="The workspace's name or id.")]


@app.command("list")
def show_all(
    status: Annotated[str | None, typer.Option(help="Only those: active or draining.")] = None,
    limit: Limit = 100,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List workspaces, newest first."""
    items = ask(lambda edge: edge.items(PATH, limit=limit, status=status))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no such workspaces")


@app.command("show")
def show_one(name: Workspace, as_json: Json = False) -> None:  # noqa: FBT002
    """Show a workspace, and how many runs are open there."""

    async def do(edge: Edge) -> dict[str, Any]:
        return await _with_runs(edge, await edge.get(f"{PATH}/{await id_of(edge, PATH, name)}"))

    found = ask(do)
    if as_json:
        print_json(found)
        return
    print_fields(found, [field for field in FIELDS if found.get(field) not in (None, "", [])])
    console().print(_runs_text(found))


@app.command("drain", epilog="Example: remit workspaces drain production")
def drain(name: Workspace, as_json: Json = False) -> None:  # noqa: FBT002
    """Let no new run start in a workspace; what has begun goes on to its end, what is queued waits."""
    found = ask(lambda edge: _become(edge, name, "draining"))
    if as_json:
        print_json(found)
        return
    shown = escape(found["name"])
    console().print(f"workspace [bold]{shown}[/] is draining: it takes no new runs until it is resumed")
    console().print("what has begun goes on to its end; what is queued and was not let in yet stays so")
    console().print(_runs_text(found))
    console().print(f"[dim]remit workspaces show {shown}[/]  [dim]remit workspaces resume {shown}[/]")


@app.command("resume", epilog="Example: remit workspaces resume production")
def resume(name: Workspace, as_json: Json = False) -> None:  # noqa: FBT002
    """Let runs start in a workspace again; what is queued there begins."""
    found = ask(lambda edge: _become(edge, name, "active"))
    if as_json:
        print_json(found)
        return
    console().print(f"workspace [bold]{escape(found['name'])}[/] is active: runs start there, those that wait first")
    console().print(_runs_text(found))


async def _become(edge: Edge, name: str, status: str) -> dict[str, Any]:
    """The workspace with this status; by the route that operators may use, too."""
    path = f"{PATH}/{await id_of(edge, PATH, name)}"
    row = await edge.get(path)
    return await _with_runs(edge, await edge.patch(f"{path}/limits", {"status": status}, version=row["version"]))


async def _with_runs(edge: Edge, row: dict[str, Any]) -> dict[str, Any]:
    """The workspace with the numbers of its open runs, as far as the caller may count them."""
    try:
        runs = {name: await _count(edge, row["id"], statuses) for name, statuses in OPEN.items()}
    except RefusedError as refusal:
        if refusal.status != FORBIDDEN:
            raise
        return row | {"open_runs": None}
    return row | {"open_runs": runs}


async def _count(edge: Edge, workspace_id: str, statuses: str) -> int:
    asked: dict[str, Any] = {"workspace_id": workspace_id, "status[in]": statuses}
    found = await edge.get("/v1/runs/count", **asked)
    return int(found["count"])


def _runs_text(found: dict[str, Any]) -> str:
    runs = found["open_runs"]
    if runs is None:
        return "[dim]you may not count its runs[/]"
    listed = ", ".join(f"{count} {name}" for name, count in runs.items())
    return f"open runs: {listed}" if any(runs.values()) else "no run is open there"
