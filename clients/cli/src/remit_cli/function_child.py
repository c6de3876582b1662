"""Calls one function of a folder in a process of its own, which may be that of the folder's own environment.

So only the standard library is needed here. What to call and with what comes by standard input; what came of it is JSON
in the file that the second argument names. Run with `-P`: the names beside this file are not the folder's.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID


class Step(NamedTuple):
    """What a function is told of the step it does."""

    organization_id: UUID
    run_id: UUID
    node: str
    iteration: int
    attempt: int
    idempotency_key: str
    traceparent: str


def main() -> None:
    """Call the function, or find out why it cannot be."""
    folder, result = Path(sys.argv[1]), Path(sys.argv[2])
    asked = json.load(sys.stdin)
    sys.path[:0] = [str(folder), str(folder / "src")]
    result.write_bytes(_as_json(_called(folder, asked)))


def _called(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        function = pkgutil.resolve_name(asked["target"])
    except (Exception, SystemExit) as error:  # noqa: BLE001  (somebody's module, whatever it does)
        return {"stage": "load", **_told(error, folder)}
    if not callable(function):
        return {"stage": "load", "error": "TypeError", "message": "it is no function", "code": None, "frames": []}
    if asked["only_load"]:
        return {"stage": "loaded"}
    nobody = UUID(int=0)
    step = Step(nobody, nobody, "agent", 0, 1, f"{nobody}:agent:0", f"00-{1:032x}-{1:016x}-00")
    began = time.perf_counter()
    try:
        output = asyncio.run(_answer(function, asked["input"], step))
    except Exception as error:  # noqa: BLE001  (somebody's function, whatever it raises)
        return {"stage": "call", "seconds": time.perf_counter() - began, **_told(error, folder)}
    return {"stage": "done", "seconds": time.perf_counter() - began, "output": output}


async def _answer(function: Callable[[Any, Step], Any], given: Any, step: Step) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(given, step)
    answer = await asyncio.to_thread(function, given, step)
    return await answer if inspect.isawaitable(answer) else answer


def _told(error: BaseException, folder: Path) -> dict[str, Any]:
    """What broke, and where in the folder's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        where = [f"{Path(error.filename or '?').name}:{error.lineno}: {(error.text or '').strip()}"]
    else:
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        where = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in own]
    code = getattr(error, "code", None)
    return {
        "error": type(error).__name__,
        "message": str(error),
        "code": code if isinstance(code, str) else None,
        "frames": where,
    }


def _as_json(came: dict[str, Any]) -> bytes:
    try:
        return _dumps(came)
    except (TypeError, ValueError) as error:
        return json.dumps({**came, "stage": "unfit", "output": None, "message": str(error)}).encode()


def _dumps(value: Any) -> bytes:
    """As the worker would store it, where that library is there: it knows dates and data classes."""
    try:
        import orjson
    except ImportError:
        return json.dumps(value, allow_nan=False).encode()
    return orjson.dumps(value)


if __name__ == "__main__":
    main()
