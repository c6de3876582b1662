"""`remit agents` and `remit orchestrations`: what may run."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from remit_cli.edge import Edge
from remit_cli.failures import CliError
from remit_cli.options import Json, Limit, ask, id_of
from remit_cli.show import console, print_fields, print_json, print_table

FIELDS = ("id", "name", "description", "workspace_id", "status", "current_version", "created_by", "updated_at")
EXAMPLES = {"agent": "document.agent.yaml", "orchestration": "digest.orchestration.yaml"}
COLUMNS = ("name", "current_version", "status", "id", "updated_at")
PROMOTIONS = ("id", "status", "semver", "to_workspace_id", "approvers", "approver_id", "error_code", "created_at")


Name = Annotated[str, typer.Argument(metavar="NAME", help="The name or id.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files.")]


def print_scan(scan: dict[str, Any]) -> None:
    """What a scan has found, and whether the version runs all the same."""
    for finding in scan.get("findings", ()):
        where = f" at {finding['path']}" if finding["path"] else ""
        console().print(f"  [yellow]{finding['severity']}[/]{escape(where)}: {escape(finding['message'])}")
    if scan.get("passed") is False:
        console().print("  [red]It does not run before this is mended:[/] the scan of this version has failed.")


class Definitions:
    """The commands for one kind of definition."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._path = f"/v1/{noun}s"

    def show_all(self, limit: Limit = 50, as_json: Json = False) -> None:  # noqa: FBT002
        """List them, newest first."""
        items = ask(lambda edge: edge.items(self._path, limit=limit))
        if as_json:
            print_json({"items": items})
        else:
            print_table(items, COLUMNS, empty=f"no {self._noun}s yet: remit {self._noun}s apply samples/…")

    def show_one(self, name: Name, as_json: Json = False) -> None:  # noqa: FBT002
        """Show one, with its current configuration."""
        found = ask(lambda edge: self._get(edge, name))
        if as_json:
            print_json(found)
            return
        print_fields(found, FIELDS)
        console().print(f"\n{found['config_yaml']}", markup=False)

    def apply(
        self,
        files: Files,
        workspace: Annotated[str | None, typer.Option(help="Goes before the one in the file.")] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Make what files say; a file that says nothing new changes nothing."""
        for file in files:
            body = {"file": read_file(file)} | ({"workspace": workspace} if workspace else {})
            found, scan = ask(lambda edge: self._apply(edge, body))  # noqa: B023 asked at once
            if as_json:
                print_json(found)
                continue
            what, row = found["changed"], found[self._noun]
            said = ", ".join(what) if what else "unchanged"
            console().print(f"{self._noun} [bold]{row['name']}[/] {row['current_version']}: {said}")
            print_scan(scan)

    async def _apply(self, edge: Edge, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What has come of a file, and what the scan of a new version found."""
        found: dict[str, Any] = await edge.post(f"{self._path}/apply", body)
        if self._noun != "agent" or "version" not in found["changed"]:
            return found, {}
        row = found[self._noun]
        version = await edge.get(f"{self._path}/{row['id']}/versions/{row['current_version']}")
        return found, version["security_scan_results"]

    def delete(self, name: Name) -> None:
        """Retire it; versions and runs stay, and it can be restored."""

        async def do(edge: Edge) -> None:
            await edge.delete(f"{self._path}/{await id_of(edge, self._path, name)}")

        ask(do)
        console().print(f"{self._noun} {name} deleted")

    def rollback(
        self,
        name: Name,
        to: Annotated[str | None, typer.Option(help="The version [the one that was current before].")] = None,
        reason: Annotated[str, typer.Option(help="Why; it is kept in the audit log.")] = "",
        workspace: Annotated[str | None, typer.Option(help="Where the name alone is not enough.")] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Make an earlier version current again; runs under way stay on theirs."""
        body = {"reason": reason} | ({"to": to} if to else {})

        async def do(edge: Edge) -> Any:
            found = await id_of(edge, self._path, name, **await place_of(edge, workspace))
            return await edge.post(f"{self._path}/{found}/rollback", body)

        found = ask(do)
        if as_json:
            print_json(found)
        else:
            console().print(f"{self._noun} [bold]{found['name']}[/] runs {found['current_version']}")

    def promote(
        self,
        name: Name,
        to: Annotated[str, typer.Option(help="The workspace that takes its versions from this one's.")],
        version: Annotated[str, typer.Option(help="A version, or current.")] = "current",
        workspace: Annotated[str | None, typer.Option(help="Whose it is, where the name alone is not enough.")] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Bring a version, unchanged, into the next workspace, or ask for it where that one wants to be asked."""
        body = {"to_workspace": to, "version": version}

        async def do(edge: Edge) -> Any:
            found = await id_of(edge, self._path, name, **await place_of(edge, workspace))
            return await edge.post(f"{self._path}/{found}/promote", body)

        found = ask(do)
        if as_json:
            print_json(found)
            return
        if self._noun not in found:
            whom = escape(" or ".join(found["approvers"]) or "an administrator")
            console().print(f"waits for an approval by {whom}: [dim]remit approvals show {escape(found['id'])}[/]")
            return
        row, said = found[self._noun], ", ".join(found["changed"]) or "unchanged"
        console().print(f"{self._noun} [bold]{row['name']}[/] {row['current_version']} in {escape(to)}: {said}")

    def promotions(
        self,
        name: Name,
        workspace: Annotated[str | None, typer.Option(help="Whose it is, where the name alone is not enough.")] = None,
        limit: Limit = 20,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """List the promotions that were to be approved, newest first."""

        async def do(edge: Edge) -> Any:
            found = await id_of(edge, self._path, name, **await place_of(edge, workspace))
            return await edge.items(f"{self._path}/{found}/promotions", limit=limit)

        items = ask(do)
        if as_json:
            print_json({"items": items})
        else:
            print_table(items, PROMOTIONS, empty="no promotion had to be approved")

    async def _get(self, edge: Edge, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await edge.get(f"{self._path}/{await id_of(edge, self._path, name)}")
        return found


def make(noun: str) -> typer.Typer:
    """Return the commands for one kind of definition."""
    app = typer.Typer(help=f"Register and read {noun}s.", no_args_is_help=True)
    commands = Definitions(noun)
    app.command("list")(commands.show_all)
    app.command("get")(commands.show_one)
    app.command("apply", epilog=f"Example: remit {noun}s apply samples/{EXAMPLES[noun]}")(commands.apply)
    app.command("delete")(commands.delete)
    app.command("rollback", epilog=f"Example: remit {noun}s rollback {noun} --to 1.2.0")(commands.rollback)
    if noun == "agent":
        app.command("promote", epilog="Example: remit agents promote write --to staging")(commands.promote)
        app.command("promotions")(commands.promotions)
    return app


async def place_of(edge: Edge, workspace: str | None) -> dict[str, str]:
    """Return what narrows a search by name to one workspace."""
    return {"workspace_id": await id_of(edge, "/v1/workspaces", workspace)} if workspace else {}


def read_file(path: Path) -> str:
    """Return a file's text, or CliError."""
    try:
        return path.read_text()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path} is not text") from None
