"""The local loop of `remit agents dev`: read the folder, run what was asked for, say what came of it."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from rich.markup import escape

from execution.domain.schemas import validate_input
from remit_cli.agent_folders import AgentFolder, Came, call_function, load_function, read_folder, snapshot
from remit_cli.commands.runs import read_input
from remit_cli.failures import CliError, show_failure
from remit_cli.show import console, print_json

POLL_SECONDS = 0.3


async def rounds(folder: Path, function: str | None, given: list[str]) -> None:
    """Again and again, until somebody stops it."""
    named = [Path(each.rpartition("@")[2]) for each in given if "@" in each]
    read_folder(folder)  # what is no package of agents will not become one
    while True:
        before = snapshot(folder, *named)
        try:
            await one_round(folder, function, given, as_json=False)
        except CliError as error:
            show_failure(error, as_json=False)
        console().print("[dim]waits for a change …[/]")
        while snapshot(folder, *named) == before:  # noqa: ASYNC110  (a file tells nobody that it changed)
            await asyncio.sleep(POLL_SECONDS)
        console().rule(style="dim")


async def one_round(folder: Path, function: str | None, given: list[str], *, as_json: bool) -> bool:
    """Read everything anew, and do what was asked for; whether all is well."""
    found = read_folder(folder)
    if not given:
        return await _look(found, as_json=as_json)
    name, value = _chosen(found, function), read_input(given)
    agent = found.agents.get(name)
    problems = _unfit(agent.spec.input_schema if agent else None, value)
    if problems:
        _show_unfit("the input does not fit input_schema", problems, as_json=as_json)
        return False
    came = await call_function(found, name, value)
    wrong = _unfit(agent.spec.output_schema if agent else None, came.output) if came.stage == "done" else []
    if as_json:
        print_json({**came._asdict(), "function": name, "problems": wrong})
    else:
        _say_problems(found)
        _show(name, came, wrong)
    return came.stage == "done" and not wrong and not found.problems


def _chosen(found: AgentFolder, function: str | None) -> str:
    known = ", ".join(found.targets)
    if function is None and len(found.targets) > 1:
        raise CliError(f"which one? --function is one of: {known}")
    name = function or next(iter(found.targets))
    if name not in found.targets:
        raise CliError(f"{name!r} is not registered here: --function is one of: {known}")
    return name


def _unfit(schema: Any, value: Any) -> list[dict[str, str]]:
    found = validate_input(schema, value)
    return [{"path": problem.path or "its root", "message": problem.message} for problem in found]


def _show_unfit(what: str, problems: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        print_json({"stage": "input", "message": what, "problems": problems})
        return
    console().print(f"[red]✗[/] {what}")
    for problem in problems:
        console().print(f"    at {escape(problem['path'])}: {escape(problem['message'])}")


def _show(name: str, came: Came, wrong: list[dict[str, str]]) -> None:
    out = console()
    took = "" if came.seconds is None else f"  {came.seconds * 1000:.1f} ms"
    if came.stage == "done":
        out.print(f"[{'red' if wrong else 'green'}]{'✗' if wrong else '✓'}[/] [bold]{escape(name)}[/]{took}")
        out.print(orjson.dumps(came.output, option=orjson.OPT_INDENT_2).decode(), markup=False)
        if wrong:
            _show_unfit("the output does not fit output_schema", wrong, as_json=False)
        return
    _show_failed(name, came, took)


_STAGES = {
    "load": "cannot be loaded: ",
    "call": "raised ",
    "timeout": "was stopped: ",
    "unfit": "answered with what is no JSON: ",
}


def _show_failed(name: str, came: Came, took: str = "") -> None:
    out = console()
    what = escape(": ".join(part for part in (came.error, came.message) if part))
    out.print(f"[red]✗[/] [bold]{escape(name)}[/] {_STAGES[came.stage]}{what}{took}")
    for frame in came.frames:
        out.print(f"    {escape(frame)}")
    if came.stage == "call":
        code = came.code or "function_failed"
        out.print(f"    [dim]a run's step would fail with the code {escape(code)}, and say nothing of the message[/]")


def _say_problems(found: AgentFolder) -> None:
    for problem in found.problems:
        console().print(f"[yellow]![/] {escape(problem)}")


async def _look(found: AgentFolder, *, as_json: bool) -> bool:
    """Whether each function can be loaded, and which file names it."""
    loaded = {name: await load_function(found, name) for name in found.targets}
    if as_json:
        functions = [
            {"function": name, "target": found.targets[name], "file": _file_of(found, name), **came._asdict()}
            for name, came in loaded.items()
        ]
        print_json({"functions": functions, "problems": found.problems})
    else:
        _say_problems(found)
        for name, came in loaded.items():
            if came.stage == "loaded":
                file = _file_of(found, name) or "no *.agent.yaml names it"
                console().print(f"[green]✓[/] [bold]{escape(name)}[/]  {escape(found.targets[name])}  {escape(file)}")
            else:
                _show_failed(name, came)
    return not found.problems and all(came.stage == "loaded" for came in loaded.values())


def _file_of(found: AgentFolder, name: str) -> str | None:
    agent = found.agents.get(name)
    return agent.path.name if agent else None
