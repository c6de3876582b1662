"""`remit agents` and `remit orchestrations`: what may run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from remit_cli.edge import Edge
from remit_cli.failures import CliError
from remit_cli.options import Json, Limit, ask, id_of
from remit_cli.show import console, print_fields, print_json, print_table

FIELDS = ("id", "name", "description", "workspace_id", "status", "current_version", "created_by", "updated_at")
COLUMNS = ("name", "current_version", "status", "id", "updated_at")


def make(noun: str) -> typer.Typer:
    """Return the commands for one kind of definition."""
    path = f"/v1/{noun}s"
    app = typer.Typer(help=f"Register and read {noun}s.", no_args_is_help=True, rich_markup_mode="rich")
    Name = Annotated[str, typer.Argument(metavar="NAME", help=f"The {noun}'s name or id.")]  # noqa: N806 a type

    @app.command("list")
    def show_all(limit: Limit = 50, as_json: Json = False) -> None:  # noqa: FBT002
        """List them, newest first."""
        items = ask(lambda edge: edge.items(path, limit=limit))
        if as_json:
            print_json({"items": items})
        else:
            print_table(items, COLUMNS, empty=f"no {noun}s yet: remit {noun}s apply samples/…")

    @app.command("get")
    def show_one(name: Name, as_json: Json = False) -> None:  # noqa: FBT002
        """Show one, with its current configuration."""
        found = ask(lambda edge: _get(edge, path, name))
        if as_json:
            print_json(found)
            return
        print_fields(found, FIELDS)
        console().print(f"\n{found['config_yaml']}", markup=False)

    @app.command("apply", epilog=f"Example: remit {noun}s apply samples/{_example(noun)}")
    def apply(
        files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files.")],
        workspace: Annotated[str | None, typer.Option(help="Goes before the one in the file.")] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Make what files say; a file that says nothing new changes nothing."""
        for file in files:
            body = {"file": read_file(file)} | ({"workspace": workspace} if workspace else {})
            found: dict[str, Any] = ask(lambda edge: edge.post(f"{path}/apply", body))  # noqa: B023 asked at once
            if as_json:
                print_json(found)
                continue
            what, row = found["changed"], found[noun]
            said = ", ".join(what) if what else "unchanged"
            console().print(f"{noun} [bold]{row['name']}[/] {row['current_version']}: {said}")

    @app.command("delete")
    def delete(name: Name) -> None:
        """Retire it; versions and runs stay, and it can be restored."""

        async def do(edge: Edge) -> None:
            await edge.delete(f"{path}/{await id_of(edge, path, name)}")

        ask(do)
        console().print(f"{noun} {name} deleted")

    return app


def read_file(path: Path) -> str:
    """Return a file's text, or CliError."""
    try:
        return path.read_text()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path} is not text") from None


async def _get(edge: Edge, path: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = await edge.get(f"{path}/{await id_of(edge, path, name)}")
    return found


def _example(noun: str) -> str:
    return "document.agent.yaml" if noun == "agent" else "digest.orchestration.yaml"
