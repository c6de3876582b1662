"""`remit usage`: what was used and what it cost."""

from typing import Annotated, Any

import typer

from remit_cli.options import Json, ask
from remit_cli.show import console, dollars, print_json, print_table

COLUMNS = ("key", "steps", "input_tokens", "output_tokens", "cost_usd_micros")


def show_usage(
    group_by: Annotated[str, typer.Option("--by", help="organization, agent, model or day.")] = "agent",
    first_day: Annotated[str | None, typer.Option("--from", metavar="DAY", help="UTC; 30 days ago.")] = None,
    last_day: Annotated[str | None, typer.Option("--to", metavar="DAY", help="UTC; today.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show tokens and cost by agent, model or day."""
    query: dict[str, Any] = {"group_by": group_by, "from": first_day, "to": last_day}
    found = ask(lambda edge: edge.get("/v1/usage", **query))
    if as_json:
        print_json(found)
        return
    print_table(found["items"], COLUMNS, empty="nothing used yet")
    total = dollars(found["total_cost_usd_micros"])
    console().print(f"\n[bold]{total}[/] from {found['first_day']} to {found['last_day']}")
