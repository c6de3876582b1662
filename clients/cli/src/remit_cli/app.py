"""The `remit` command's table of contents."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from remit_cli import place
from remit_cli.commands import (
    approvals,
    audit,
    definitions,
    evals,
    facts,
    forks,
    functions,
    hosts,
    keys,
    kills,
    machine,
    policies,
    prices,
    runs,
    schedules,
    usage,
    workspaces,
)
from remit_cli.failures import EXIT_CODES, FAILED, CliError, show_failure
from remit_cli.options import chosen
from remit_local.process import ServerError

INTERRUPTED = 130

app = typer.Typer(
    name="remit",
    help="Remit, a control plane for AI agents: run it on this machine, and work with any edge of it.",
    epilog=f"Start with `remit up`. REMIT_EDGE and REMIT_API_KEY name another edge and key. {EXIT_CODES}",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The data folder of this machine's Remit.")] = (
        place.DATA
    ),
    role: Annotated[
        str | None, typer.Option("--as", metavar="ROLE", help="Use the demo's key of this role, such as viewer.")
    ] = None,
) -> None:
    """Take what is said before a command's name."""
    chosen.data, chosen.role = data, role


machine.add_to(app)
forks.add_to(runs.app)
agents = definitions.make("agent")
evals.add_to(agents)
functions.add_to(agents)
app.add_typer(agents, name="agents")
app.add_typer(definitions.make("orchestration"), name="orchestrations")
app.add_typer(runs.app, name="runs")
app.add_typer(schedules.app, name="schedules")
app.add_typer(kills.app, name="kill")
app.add_typer(workspaces.app, name="workspaces")
app.add_typer(approvals.app, name="approvals")
app.add_typer(keys.app, name="keys")
app.add_typer(keys.credentials, name="credentials")
app.add_typer(prices.app, name="prices")
app.add_typer(hosts.app, name="hosts")
app.add_typer(policies.app, name="policies")
app.add_typer(audit.app, name="audit")
app.command("usage")(usage.show_usage)
app.add_typer(facts.app, name="facts")


def run() -> None:
    """Run the command line; failures end with a message and their exit code."""
    try:
        app(prog_name="remit")
    except CliError as error:
        show_failure(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except ServerError as error:
        show_failure(CliError(str(error)), as_json="--json" in sys.argv)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
