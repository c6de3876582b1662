"""A folder with agents in Python as it lies there: what it registers, what its files say, and what its functions do."""

import asyncio
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from execution.domain.agents import PythonAgent
from execution.domain.definitions import parse_agent
from execution.domain.problems import DefinitionError
from remit_cli import function_child
from remit_cli.failures import CliError

GROUP = "remit.agents"
LOAD_SECONDS = 60.0
DEFAULT_SECONDS = 60.0
START_SECONDS = 10.0
"""For a process to start and load the function, beside the time that the function has."""
_WATCHED = frozenset({".py", ".yaml", ".yml", ".toml", ".json", ".txt", ".md"})
_PASSED_OVER = frozenset({"__pycache__", "node_modules", "build", "dist"})


class AgentFile(NamedTuple):
    """One agent's file that names a function of the folder."""

    path: Path
    spec: PythonAgent


class AgentFolder(NamedTuple):
    """What is in the folder."""

    folder: Path
    targets: Mapping[str, str]
    """Each registered function, and where it is: `{greet: "greetings:greet"}`."""
    agents: Mapping[str, AgentFile]
    """By the function that they name."""
    problems: tuple[str, ...]
    """What would keep a file from being applied."""


def read_folder(folder: Path) -> AgentFolder:
    """What the folder registers and says; CliError where it is no package of agents."""
    folder = folder.resolve()
    file = folder / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise CliError(f"{folder} has no pyproject.toml: `remit agents new NAME` makes a folder that has") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise CliError(f"{file}: {error}") from None
    targets = project.get("project", {}).get("entry-points", {}).get(GROUP, {})
    if not isinstance(targets, dict) or not targets:
        example = f'[project.entry-points."{GROUP}"] with lines such as greet = "greetings:greet"'
        raise CliError(f"{file} registers no function: it needs {example}")
    agents, problems = _read_agents(folder, targets)
    return AgentFolder(folder, {name: str(target) for name, target in targets.items()}, agents, tuple(problems))


def _read_agents(folder: Path, targets: Mapping[str, Any]) -> tuple[dict[str, AgentFile], list[str]]:
    agents: dict[str, AgentFile] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.agent.yaml")):
        try:
            spec = parse_agent(path.read_text()).spec
        except DefinitionError as error:
            problems += [f"{path.name}, {problem}" for problem in error.problems]
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path.name} cannot be read: {error}")
            continue
        if not isinstance(spec, PythonAgent):
            continue
        if spec.python.function not in targets:
            problems.append(f"{path.name} names the function {spec.python.function!r}, which is not registered here")
        agents.setdefault(spec.python.function, AgentFile(path, spec))
    return agents, problems


class Came(NamedTuple):
    """What came of a function."""

    stage: str
    """loaded, done; load, call, unfit (no JSON), timeout: where it failed."""
    output: Any = None
    seconds: float | None = None
    error: str = ""
    message: str = ""
    code: str | None = None
    frames: tuple[str, ...] = ()


async def load_function(found: AgentFolder, name: str) -> Came:
    """Whether the function can be loaded, or why not."""
    return await _child(found, {"target": found.targets[name], "only_load": True}, LOAD_SECONDS)


async def call_function(found: AgentFolder, name: str, given: Any) -> Came:
    """What the function makes of an input, within the time that its agent has."""
    agent = found.agents.get(name)
    seconds = agent.spec.timeout_seconds if agent else DEFAULT_SECONDS
    asked = {"target": found.targets[name], "only_load": False, "input": given}
    came = await _child(found, asked, seconds + START_SECONDS)
    if came.stage == "timeout" or (came.seconds is not None and came.seconds > seconds):
        return Came("timeout", seconds=seconds, message=f"no answer within {seconds:g} s")
    return came


async def _child(found: AgentFolder, asked: Mapping[str, Any], seconds: float) -> Came:
    with tempfile.TemporaryDirectory(prefix="remit-dev-") as place:
        result = Path(place) / "result.json"
        # Its own words go to the standard error: what the function prints is no part of the output.
        process = await asyncio.create_subprocess_exec(
            python_of(found.folder), "-P", function_child.__file__, str(found.folder), str(result),
            stdin=asyncio.subprocess.PIPE, stdout=2, cwd=found.folder, env={**_environment()},
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                await process.communicate(orjson.dumps(dict(asked)))
        except TimeoutError:
            return Came("timeout", message=f"no answer within {seconds:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not result.exists():
            message = f"its process ended with the exit code {process.returncode}"
            return Came("load", error="SystemExit", message=message)
        told = orjson.loads(result.read_bytes())
        return Came(**{**told, "frames": tuple(told.get("frames", ()))})


def python_of(folder: Path) -> str:
    """The folder's own Python, else this one."""
    own = folder / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def snapshot(folder: Path, *more: Path) -> dict[Path, int]:
    """When each file that matters was changed last."""
    found: dict[Path, int] = {}
    for path in (*_files(folder), *more):
        try:
            found[path] = path.stat().st_mtime_ns
        except OSError:
            continue  # it went while we looked
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _PASSED_OVER and not name.startswith(".")]
        for name in names:
            if Path(name).suffix in _WATCHED:
                yield Path(place, name)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
