"""`remit schedules`: run agents and orchestrations by the clock."""

from datetime import datetime
from typing import Annotated, Any

import typer

from remit_cli.commands.runs import read_input
from remit_cli.edge import Edge
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_fields, print_json, print_table

app = typer.Typer(help="Run agents and orchestrations by the clock.", no_args_is_help=True)
COLUMNS = ("name", "execution_type", "cron", "time_zone", "next_tick_at", "last_tick_at", "last_error_code", "id")
FIELDS = (
    *("id", "name", "execution_type", "definition_id", "semver", "cron", "time_zone", "missed_ticks", "next_tick_at"),
    *("last_tick_at", "last_run_id", "last_error_code", "last_error_detail", "paused_at", "pause_reason"),
)
Schedule = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]


@app.command(
    "create",
    epilog="Example: remit schedules create nightly --orchestration digest --input text=@README.md "
    "--cron '0 3 * * *' --time-zone Europe/Berlin",
)
def create(  # noqa: PLR0917  (each is an option of the command line)
    name: Annotated[str, typer.Argument(help="What to call it.")],
    cron: Annotated[str, typer.Option(help="Five fields: minute, hour, day, month, weekday.")],
    agent: Annotated[str | None, typer.Option(help="An agent's name or id.")] = None,
    orchestration: Annotated[str | None, typer.Option(help="An orchestration's name or id.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Where the name alone is not enough.")] = None,
    version: Annotated[str, typer.Option(help="A version, or current.")] = "current",
    given: Annotated[
        list[str] | None,
        typer.Option("--input", help="JSON, @file with JSON, NAME=text or NAME=@file; may be repeated."),
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Such as UTC or Europe/Berlin.")] = "UTC",
    missed: Annotated[str, typer.Option(help="What becomes of missed ticks: skip, one or all.")] = "skip",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Run something by the clock, as you."""
    if (agent is None) == (orchestration is None):
        raise typer.BadParameter("name either --agent or --orchestration")
    body: dict[str, Any] = {
        "name": name, "cron": cron, "time_zone": time_zone, "missed_ticks": missed, "version": version,
        "input": read_input(given or []), "agent": agent, "orchestration": orchestration, "workspace": workspace,
    }  # fmt: skip
    _show(ask(lambda edge: edge.post("/v1/schedules", body)), as_json=as_json)


@app.command("list")
def show_all(limit: Limit = 20, as_json: Json = False) -> None:  # noqa: FBT002
    """List schedules."""
    items = ask(lambda edge: edge.items("/v1/schedules", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no schedules yet: remit schedules create …")


@app.command("get")
def show_one(schedule_id: Schedule, as_json: Json = False) -> None:  # noqa: FBT002
    """Show one schedule."""
    _show(ask(lambda edge: edge.get(f"/v1/schedules/{schedule_id}")), as_json=as_json)


@app.command("pause")
def pause(
    schedule_id: Schedule,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit log.")] = "",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Start nothing until it is resumed."""
    _show(ask(lambda edge: edge.post(f"/v1/schedules/{schedule_id}/pause", {"reason": reason})), as_json=as_json)


@app.command("resume")
def resume(schedule_id: Schedule, as_json: Json = False) -> None:  # noqa: FBT002
    """Go on with the next tick."""
    _show(ask(lambda edge: edge.post(f"/v1/schedules/{schedule_id}/resume", {})), as_json=as_json)


@app.command("backfill", epilog="Example: remit schedules backfill 0198… 2026-11-01T00:00+01:00 2026-11-08T00:00+01:00")
def backfill(
    schedule_id: Schedule,
    start: Annotated[str, typer.Argument(help="The first moment, with its offset.")],
    end: Annotated[str, typer.Argument(help="The moment after the last.")],
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Start a run for each tick of a time that is past, 100 at most."""
    body = {"start": _moment(start), "end": _moment(end)}
    found = ask(lambda edge: edge.post(f"/v1/schedules/{schedule_id}/backfill", body))
    if as_json:
        print_json(found)
    else:
        print_table(found["items"], ("tick_at", "run_id", "error_code"), empty="no tick in that time")


@app.command("delete")
def delete(schedule_id: Schedule) -> None:
    """Remove a schedule; the runs it started stay."""

    async def do(edge: Edge) -> None:
        await edge.delete(f"/v1/schedules/{schedule_id}")

    ask(do)
    console().print(f"schedule {schedule_id} is gone")


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is no time: write 2026-11-01T00:00+01:00") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text} has no offset: write {text}Z or {text}+01:00")
    return moment.isoformat()


def _show(schedule: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(schedule)
    else:
        print_fields(schedule, [name for name in FIELDS if schedule.get(name) not in (None, "")])
