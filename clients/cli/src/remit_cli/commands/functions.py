"""`remit agents new` and `remit agents dev`: agents in Python, written and tried without a server."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from remit_cli.agent_templates import make_agent_folder
from remit_cli.failures import FAILED
from remit_cli.options import Json
from remit_cli.show import console

Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Of a package of agents.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of agents."""
    app.command("new", epilog="Example: remit agents new word-count")(new)
    app.command("dev", epilog="Example: remit agents dev word-count --input text='rivers are wet'")(dev)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, hyphens.")],
    into: Annotated[Path, typer.Option("--in", metavar="DIR", help="Where its folder is made.")] = Path(),
) -> None:
    """Make a folder with an agent in Python, to be changed."""
    folder = into / name
    for path in make_agent_folder(name, folder):
        console().print(f"[green]made[/]  {escape(str(path))}")
    console().print(f"[dim]remit agents dev {escape(str(folder))} --input @{escape(str(folder / 'input.json'))}[/]")


def dev(
    folder: Folder = Path(),
    function: Annotated[str | None, typer.Option(help="A registered function, where there are several.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", help="JSON, @file with JSON, NAME=text or NAME=@file; may be repeated."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do not wait for changes.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Run a function of this folder on an input whenever a file changes; without an input, see whether all can be run.

    No server is needed: the folder's own `.venv` is used if it has one, else the Python of this command.
    """
    from remit_cli.agent_rounds import one_round, rounds

    inputs = given or []
    if once or as_json:
        if not asyncio.run(one_round(folder, function, inputs, as_json=as_json)):
            raise typer.Exit(FAILED)
        return
    asyncio.run(rounds(folder, function, inputs))
