"""`remit up`, `down`, `status`, `logs`, `migrate`, `bootstrap`, `demo`, `doctor`: Remit on this machine."""

import asyncio
import json
import subprocess
import sys
from typing import Annotated

import typer

from remit_cli.checkup import examine
from remit_cli.failures import FAILED
from remit_cli.log_view import show_logs
from remit_cli.options import Data, Json, folder_of
from remit_cli.place import OPERATOR_FILE
from remit_cli.show import console, print_json
from remit_cli.status_view import print_status, status_of
from remit_local.presence import AlreadyRunningError, status, stop_running


def up(
    data: Data = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The edge's port [8080, or the next free].")
    ] = None,
    processes: Annotated[  # noqa: FBT002
        bool, typer.Option("--processes", help="One process per service and role instead of one for all.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it runs.")] = False,  # noqa: FBT002
    no_demo: Annotated[  # noqa: FBT002
        bool, typer.Option("--no-demo", help="Do not fetch the embedded model or run the sample.")
    ] = False,
) -> None:
    """Start Remit here and show what it does; again: say how it is.

    Installs what is missing, keeps everything in the data folder, and ends with a run that a real model produced,
    explained from the policy decision to the audit entries.
    """
    folder = folder_of(data)
    if status(folder) is None:
        from remit_cli.up import start

        try:
            start(folder, processes=processes, detached=detach, port=port, with_demo=not no_demo)
        except AlreadyRunningError:
            console().print("[dim]another start was faster[/]")
        else:
            return
    print_status(status_of(folder))


def down(data: Data = None) -> None:
    """Stop Remit here; nothing is lost."""
    console().print("stopped" if stop_running(folder_of(data)) else "Remit is not running here")


def show_status(data: Data = None, as_json: Json = False) -> None:  # noqa: FBT002
    """Say whether Remit runs here, and how; exit code 1 when it does not."""
    found = status_of(folder_of(data))
    if as_json:
        print_json(found)
    else:
        print_status(found)
    if found["state"] != "ready":
        raise typer.Exit(FAILED)


def logs(
    name: Annotated[str | None, typer.Argument(help="A process, such as postgres, or a service; without: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,  # noqa: FBT002
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many to begin with.")] = 50,
    data: Data = None,
) -> None:
    """Show what the processes wrote."""
    show_logs(folder_of(data) / "logs", name, lines=lines, follow=follow)


def migrate(data: Data = None) -> None:
    """Bring databases, queues and keys to what this version needs; `up` does it too."""
    from remit_local.platform.installation import Installation
    from remit_local.platform.keep import install_missing, prepare_alone

    installation = Installation(folder_of(data))
    if status(installation.folder) is not None:
        command = installation.python("remit_local.platform.prepare", str(installation.folder))
        sys.exit(subprocess.run(command, check=False).returncode)
    install_missing(lambda text: console().print(text), with_model=False)
    asyncio.run(prepare_alone(installation))
    console().print((installation.folder / "logs" / "prepare.log").read_text().strip().splitlines()[-1], markup=False)


def bootstrap(data: Data = None, as_json: Json = False) -> None:  # noqa: FBT002
    """Make the platform organization and its key, once; `up` does it too."""
    file = folder_of(data) / OPERATOR_FILE
    if not file.exists():
        migrate(data)
    found = json.loads(file.read_text())
    if as_json:
        print_json({"organization_id": found["organization_id"], "key_file": str(file)})
    else:
        console().print(f"platform organization {found['organization_id']}; its key is in {file}")


def demo(data: Data = None) -> None:
    """Show the main job: a model reads a document, and one id explains what happened."""
    from remit_cli.up import show_main_job

    asyncio.run(show_main_job(folder_of(data)))


def doctor(data: Data = None, as_json: Json = False) -> None:  # noqa: FBT002
    """Look for what could be wrong here, and say what to do about it."""
    findings = examine(folder_of(data))
    if as_json:
        print_json({"findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            mark = "[green]✓[/]" if finding.fine else "[red]✗[/]"
            console().print(f"{mark} [bold]{finding.what}[/]  {finding.said}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(FAILED)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Examples: remit up; remit up --detach --port 9000 --data /srv/remit")(up)
    app.command()(down)
    app.command("status")(show_status)
    app.command(epilog="Example: remit logs execution -f")(logs)
    app.command()(migrate)
    app.command()(bootstrap)
    app.command()(demo)
    app.command()(doctor)
