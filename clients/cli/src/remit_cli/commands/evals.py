"""`remit agents eval`: an agent's evals, run and judged."""

import asyncio
from typing import Annotated, Any

import typer
from rich.markup import escape

from remit_cli.commands.definitions import Name, place_of
from remit_cli.edge import Edge
from remit_cli.failures import FAILED
from remit_cli.options import Json, ask, id_of
from remit_cli.show import console, print_json, print_table

COLUMNS = ("name", "verdict", "status", "error_code", "run_id")
POLL_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    """Add the command to those of agents."""
    app.command("eval", epilog="Example: remit agents eval contact --version 1.2.0")(evaluate)


def evaluate(
    name: Name,
    version: Annotated[str, typer.Option(help="A version, or current.")] = "current",
    workspace: Annotated[str | None, typer.Option(help="Where the name alone is not enough.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Run every eval of a version, wait, and say what came of each; exit code 1 where one is not true."""

    async def do(edge: Edge) -> dict[str, Any]:
        agent_id = await id_of(edge, "/v1/agents", name, **await place_of(edge, workspace))
        return await _ended(edge, await edge.post(f"/v1/agents/{agent_id}/versions/{version}/evaluate"))

    found = ask(do)
    if as_json:
        print_json(found)
    else:
        print_table(found["results"], COLUMNS, empty="no evals")
        passed = f"{found['passed_count']} of {found['eval_count']}"
        console().print(f"[bold]{escape(name)}[/] {found['semver']}: {passed} as expected")
    if found["passed_count"] != found["eval_count"]:
        raise typer.Exit(FAILED)


async def _ended(edge: Edge, evaluation: dict[str, Any]) -> dict[str, Any]:
    version = f"/v1/agents/{evaluation['agent_id']}/versions/{evaluation['semver']}"
    while evaluation["completed_at"] is None:
        await asyncio.sleep(POLL_SECONDS)
        evaluation = await edge.get(f"{version}/evaluations/{evaluation['id']}")
    return evaluation
