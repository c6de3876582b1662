"""`remit runs fork` and `remit runs difference`: a run done again from one of its steps, and what came of it."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from remit_cli.commands.runs import Run, read_input, show_run
from remit_cli.edge import Edge
from remit_cli.options import Json, ask
from remit_cli.show import console, dollars, print_json, print_table
from remit_cli.watch import step_name, watch_run

AllowWrites = Annotated[
    bool, typer.Option("--allow-writes", help="Really do writes, instead of playing what was recorded.")
]
COLUMNS = ("step", "change", "before", "after")


def add_to(app: typer.Typer) -> None:
    """Add both commands to those of runs."""
    example = 'Example: remit runs fork 0198… --from edit --input \'{"topic": "lakes"}\' --watch'
    app.command("fork", epilog=example)(fork)
    app.command("difference")(difference)


def fork(  # noqa: PLR0917  (each is an option of the command line)
    run_id: Run,
    step: Annotated[str, typer.Option("--from", metavar="STEP", help="The first step that is done again.")],
    iteration: Annotated[int, typer.Option(help="Which time round or item of it, from 0.")] = 0,
    given: Annotated[
        list[str] | None, typer.Option("--input", help="Another input: JSON, @file, NAME=text; may be repeated.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Another version, or current; else the run's own.")] = None,
    allow_writes: AllowWrites = False,  # noqa: FBT002
    watch: Annotated[bool, typer.Option("--watch", help="Show the steps as they happen.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Do a run again from one of its steps; what came before is kept."""
    body: dict[str, Any] = {"from_step": step, "from_iteration": iteration, "allow_writes": allow_writes}
    if given:
        body["input"] = read_input(given)
    if version:
        body["version"] = version

    async def do(edge: Edge) -> dict[str, Any]:
        headers = {"Prefer": "watch"} if watch and not as_json else {}
        run: dict[str, Any] = await edge.post(f"/v1/runs/{run_id}/fork", body, headers=headers)
        return await watch_run(edge, run, "fork") if watch and not as_json else run

    made = ask(do)
    show_run(made, as_json=as_json, must_complete=watch)
    if not as_json:
        console().print(f"[dim]remit runs difference {made['id']}[/]")


def difference(run_id: Run, as_json: Json = False) -> None:  # noqa: FBT002
    """Show a fork beside the run it comes from: output, cost, time, and each step."""
    found = ask(lambda edge: edge.get(f"/v1/runs/{run_id}/difference"))
    if as_json:
        print_json(found)
        return
    for name, (before, after) in _rows(found):
        same = "" if before == after else "  [yellow]differs[/]"
        console().print(f"[dim]{name:<8}[/] {escape(before)}  ->  {escape(after)}{same}")
    print_table([_step(each) for each in found["steps"]], COLUMNS, empty="no steps")


def _rows(found: dict[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    costs, times = found["cost_usd_micros"], found["execution_time_ms"]
    seconds = ["-" if each is None else f"{each / 1000:.1f} s" for each in times]
    return [
        ("status", (found["statuses"][0], found["statuses"][1])),
        ("output", _short(found["outputs"])),
        ("cost", (dollars(costs[0]), dollars(costs[1]))),
        ("time", (seconds[0], seconds[1])),
    ]


def _short(values: list[Any]) -> tuple[str, str]:
    shown = [str(each)[:200] for each in values]
    return shown[0], shown[1]


def _step(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": step_name(each["node"], each["iteration"]),
        "change": each["change"],
        "before": each["status_before"] or "-",
        "after": each["status_after"] or "-",
    }
