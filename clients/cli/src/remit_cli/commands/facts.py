"""`remit facts`: the operator's hand on the fact logs of this machine's Remit."""

import asyncio
from typing import Annotated

import typer

from contracts.catalog import SERVICES
from remit_cli.failures import CliError
from remit_cli.options import Data, Json, folder_of
from remit_cli.show import console, print_json
from remit_local.presence import status

app = typer.Typer(help="The fact logs of this machine's services.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Work on fact logs."""


@app.command("new-epoch", epilog="Example: remit facts new-epoch execution --above 120000")
def begin_epoch(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICES)}.")],
    above: Annotated[int, typer.Option(min=0, help="The highest number that any consumer may have seen.")],
    data: Data = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """After restoring a service's database: go on numbering its facts above N, and record the void."""
    if service not in SERVICES:
        raise typer.BadParameter(f"there is no service {service!r}: {', '.join(SERVICES)}")
    folder = folder_of(data)
    if status(folder) is None:
        raise CliError("Remit is not running here: `remit up --no-demo` starts it")
    from remit_local.platform.epochs import begin_epoch as begin
    from remit_local.platform.installation import Installation

    epoch = asyncio.run(begin(Installation(folder), service, above=above))
    if as_json:
        print_json({"service": service, "epoch": epoch, "above": above})
    else:
        console().print(f"{service} numbers its facts in epoch {epoch} from now on")
