"""Agents of kind `python`: functions of the worker's own image, registered by the packages installed in it.

A package registers a function under the entry point group `remit.agents`:

    [project.entry-points."remit.agents"]
    greet = "greetings:greet"

and the function takes the step's input and answers with what is JSON, or with something awaitable that does:

    def greet(input, step): return {"text": f"Hello, {input['name']}"}
"""

from __future__ import annotations

import asyncio
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from chassis.telemetry import logger
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode, AgentResult
from execution.domain.agents import PythonAgent
from execution.domain.schemas import validate_input

GROUP = "remit.agents"
THREADS = 32
"""Functions that are no coroutines run side by side at most; the others wait within their time-out."""
MAX_PLACES = 10
_CODE = re.compile(r"[a-z][a-z0-9_]{0,62}")
log = logger(part="python agents")


class Step(NamedTuple):
    """What a function is told of the step it does."""

    organization_id: UUID
    run_id: UUID
    node: str
    iteration: int
    attempt: int
    idempotency_key: str
    """The same for every attempt at this step, so that a repetition can be told."""
    traceparent: str


Function = Callable[[Any, Step], Any]
"""Takes (input, step); answers with JSON, at once or as something awaitable."""


def installed_functions() -> dict[str, Function]:
    """Every function that an installed package registers; one that cannot be imported is told, and is not there."""
    found: dict[str, Function] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:  # noqa: BLE001  (somebody else's module; the worker runs on without it)
            log.warning("function not loaded", function=point.name, value=point.value, error=repr(error)[:300])
    return found


class PythonRunner:
    """Calls functions: coroutines in the worker's loop, others in a thread of their own."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = {name: (each, inspect.iscoroutinefunction(each)) for name, each in functions.items()}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="python-agent")

    async def run(self, call: AgentCall) -> AgentResult:
        """The function's answer; AgentError `unknown_function`, `function_failed`, or the `code` of what it raised."""
        if not isinstance(call.spec, PythonAgent):
            raise AgentError(AgentErrorCode.NOT_SUPPORTED_YET, "This runner calls agents of kind python only.")
        name = call.spec.python.function
        if name not in self._functions:
            raise AgentError(
                AgentErrorCode.UNKNOWN_FUNCTION,
                f"No package of this worker registers a function {name!r} in the group {GROUP}.",
            )
        try:
            output = await self._answer(name, call)
        except Exception as error:
            places = _places(error)
            log.warning(
                "function failed", function=name, run_id=str(call.run_id), error=type(error).__name__, at=places
            )
            raise _failure(name, error, places[-1]) from error
        _require_fitting(name, call.spec, output)
        return AgentResult(output)

    async def _answer(self, name: str, call: AgentCall) -> Any:
        function, is_coroutine = self._functions[name]
        step = Step(
            call.organization_id, call.run_id, call.node, call.iteration, call.attempt, call.idempotency_key,
            call.traceparent,
        )  # fmt: skip
        if is_coroutine:
            return await function(call.input, step)
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, function, call.input, step)
        return await answer if inspect.isawaitable(answer) else answer


def _require_fitting(name: str, spec: PythonAgent, output: Any) -> None:
    try:
        orjson.dumps(output)
    except TypeError:
        raise AgentError(
            AgentErrorCode.INVALID_OUTPUT, f"{name} answered with what is no JSON: {type(output).__name__}."
        ) from None
    if spec.output_schema is not None and (problems := validate_input(spec.output_schema, output)):
        place = problems[0].path or "its root"
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, f"The output does not fit output_schema at {place}.")


def _failure(name: str, error: Exception, place: str) -> AgentError:
    wanted = getattr(error, "code", None)
    code = wanted if isinstance(wanted, str) and _CODE.fullmatch(wanted) else AgentErrorCode.FUNCTION_FAILED
    return AgentError(code, f"{name} raised {type(error).__name__} at {place}.", retryable=True)


def _places(error: Exception) -> list[str]:
    """Where it broke, the innermost last. An exception's text and variables may hold secrets: nobody is told them."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_PLACES:]
    return [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
