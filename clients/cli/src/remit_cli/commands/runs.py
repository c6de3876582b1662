"""`remit runs`: start, watch, stop and explain."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from remit_cli.commands.definitions import read_file
from remit_cli.edge import Edge
from remit_cli.explanation import print_explanation
from remit_cli.failures import RUN_NOT_COMPLETED, CliError
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_fields, print_json, print_table
from remit_cli.watch import FINAL, hindrance_text, watch_run
from remit_cli.watch_runs import watch_runs

app = typer.Typer(help="Start runs, watch them, stop them, explain them.", no_args_is_help=True)

COLUMNS = ("id", "status", "execution_type", "semver", "step_count", "cost_usd_micros", "queued_at")
FIELDS = (
    *("id", "status", "execution_type", "semver", "triggered_by", "queued_at", "started_at", "completed_at"),
    *("error_code", "error_message", "input_tokens", "output_tokens", "cost_usd_micros", "trace_id", "output"),
)
WAIT_SECONDS = 60
Run = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]


@app.command(
    "start",
    epilog="Examples: remit runs start --orchestration digest --input text=@README.md --watch; "
    'remit runs start --agent write --input \'{"topic": "rivers"}\' --wait',
)
def start(  # noqa: PLR0917  (each is an option of the command line)
    agent: Annotated[str | None, typer.Option(help="An agent's name or id.")] = None,
    orchestration: Annotated[str | None, typer.Option(help="An orchestration's name or id.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Where the name alone is not enough.")] = None,
    version: Annotated[str, typer.Option(help="A version, or current.")] = "current",
    given: Annotated[
        list[str] | None,
        typer.Option("--input", help="JSON, @file with JSON, NAME=text or NAME=@file; may be repeated."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key and body start one run only.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the steps as they happen.")] = False,  # noqa: FBT002
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is over.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Start an agent or an orchestration."""
    if (agent is None) == (orchestration is None):
        raise typer.BadParameter("name either --agent or --orchestration")
    subject = {"agent": agent} if agent is not None else {"orchestration": orchestration}
    body = {**subject, "version": version, "input": read_input(given or []), "trigger_type": "cli"}
    if workspace:
        body["workspace"] = workspace
    headers = {"Idempotency-Key": key} if key else {}
    title = agent or orchestration or ""
    if watch and not as_json:
        headers["Prefer"] = "watch"  # the first model's text too

    async def do(edge: Edge) -> dict[str, Any]:
        run: dict[str, Any] = await edge.post("/v1/runs", body, headers=headers)
        if watch and not as_json:
            return await watch_run(edge, run, title)
        return await _ended(edge, run) if wait or watch else run

    show_run(ask(do), as_json=as_json, must_complete=watch or wait)


@app.command("list")
def show_all(
    status: Annotated[str | None, typer.Option(help="Only those: queued, running, completed, failed, ...")] = None,
    limit: Limit = 20,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List runs, newest first."""
    items = ask(lambda edge: edge.items("/v1/runs", limit=limit, status=status))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no runs yet: remit runs start …")


@app.command("get")
def show_one(run_id: Run, as_json: Json = False) -> None:  # noqa: FBT002
    """Show one run."""
    show_run(ask(lambda edge: edge.get(f"/v1/runs/{run_id}")), as_json=as_json, must_complete=False)


@app.command("watch")
def watch(
    run_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One run; without it, all of them.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Only runs of this workspace, by name or id.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent, by name or id.")] = None,
    orchestration: Annotated[str | None, typer.Option(help="Only runs of this one, by name or id.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long.")] = None,
) -> None:
    """Show a run's steps as they happen, until it is over; without an id, all runs as they change."""
    if run_id is None:
        named = {"workspace": workspace, "agent": agent, "orchestration": orchestration}
        ask(lambda edge: watch_runs(edge, named, seconds))
        return
    if workspace or agent or orchestration or seconds:
        raise typer.BadParameter("these options narrow all runs; a run has its id")

    async def do(edge: Edge) -> dict[str, Any]:
        return await watch_run(edge, await edge.get(f"/v1/runs/{run_id}"), "run")

    show_run(ask(do), as_json=False, must_complete=True)


@app.command("cancel")
def cancel(
    run_id: Run,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit log.")] = "",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Stop a run that has not finished; again changes nothing."""
    run = ask(lambda edge: edge.post(f"/v1/runs/{run_id}/cancel", {"reason": reason}))
    show_run(run, as_json=as_json, must_complete=False)


@app.command("decide")
def decide(  # noqa: PLR0917  (each is an option of the command line)
    run_id: Run,
    step_id: Annotated[str, typer.Argument(help="A step that needs a decision; `remit runs explain` shows it.")],
    outcome: Annotated[str, typer.Option(help="completed, failed or retry.")],
    output: Annotated[str, typer.Option(help="JSON that the step gave, where it is completed.")] = "null",
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit log.")] = "",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Say what became of a write that a crash left unknown; the run then goes on."""
    body = {"outcome": outcome, "output": _json(output, "--output"), "reason": reason}
    step = ask(lambda edge: edge.post(f"/v1/runs/{run_id}/steps/{step_id}/decide", body))
    if as_json:
        print_json(step)
    else:
        console().print(f"step {escape(step['node'])}: {step['status']}")


@app.command("signal")
def signal(
    run_id: Run,
    name: Annotated[str, typer.Argument(help="The signal, or the id of the step that waits for it.")],
    payload: Annotated[str, typer.Option(help="JSON that becomes the output of the step.")] = "null",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Send a run the signal that a step of it waits for; the run then goes on."""
    body = {"name": name, "payload": _json(payload, "--payload")}
    show_run(ask(lambda edge: edge.post(f"/v1/runs/{run_id}/signal", body)), as_json=as_json, must_complete=False)


@app.command("explain")
def explain(run_id: Run, as_json: Json = False) -> None:  # noqa: FBT002
    """Say who asked, which rule decided, what ran, each step, its cost and its audit entries."""
    found = ask(lambda edge: edge.get(f"/v1/runs/{run_id}/explain"))
    if as_json:
        print_json(found)
    else:
        print_explanation(found)


def read_input(given: list[str]) -> dict[str, Any]:
    """Return a run's input from JSON, `@file`, `NAME=text` and `NAME=@file`, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for each in given:
        name, equals, rest = each.partition("=")
        if equals and name.isidentifier():
            merged[name] = read_file(Path(rest[1:])) if rest.startswith("@") else rest
        else:
            merged |= _object(read_file(Path(each[1:])) if each.startswith("@") else each, each)
    return merged


def _json(text: str, option: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise CliError(f"{option} is JSON") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        if where.startswith("@"):
            return {"text": text}  # a document: what most samples call their input
        raise CliError(f"--input {where}: neither JSON nor NAME=text") from None
    if not isinstance(found, dict):
        raise CliError("an input is a JSON object")
    return found


async def _ended(edge: Edge, run: dict[str, Any]) -> dict[str, Any]:
    while run["status"] not in FINAL:
        run = await edge.get(f"/v1/runs/{run['id']}", wait_seconds=WAIT_SECONDS)
    return run


def show_run(run: dict[str, Any], *, as_json: bool, must_complete: bool) -> None:
    """Print a run; with `must_complete`, end with the exit code of one that did not."""
    if as_json:
        print_json(run)
    else:
        print_fields(run, [name for name in FIELDS if run.get(name) not in (None, "")])
        if run.get("hindrance"):
            console().print(f"[yellow]queued[/]: {escape(hindrance_text(run['hindrance']))}")
        console().print(f"[dim]remit runs explain {run['id']}[/]")
    if must_complete and run["status"] != "completed":
        raise typer.Exit(RUN_NOT_COMPLETED)
