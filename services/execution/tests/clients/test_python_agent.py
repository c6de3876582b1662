from __future__ import annotations

import asyncio
import sys
import time
import tomllib
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from services.execution.tests.clients.calls import make_call

from execution.clients.agents import AgentError
from execution.clients.python_agent import PythonRunner, Step, installed_functions

pytestmark = pytest.mark.anyio
SCHEMA = "output_schema: {type: object, required: [text]}\n"


def config(function: str, more: str = "") -> str:
    return f"apiVersion: agent/v1\nkind: python\npython: {{function: {function}}}\n{more}"


class CardError(Exception):
    code = "card_declined"


def greet(input: Any, step: Step) -> Any:
    return {"text": f"Hello, {input['name']}", "key": step.idempotency_key}


async def greet_later(input: Any, step: Step) -> Any:
    await asyncio.sleep(0)
    return {"text": f"{step.node} {input['name']}"}


def leak(input: Any, step: Step) -> Any:
    raise ValueError(f"the secret is {input['name']} of {step.run_id}")


def decline(input: Any, step: Step) -> Any:
    raise CardError(input, step)


def answer_with_a_set(input: Any, step: Step) -> Any:
    return {input["name"], step.node}


def sleep(input: Any, step: Step) -> Any:
    del input, step
    time.sleep(0.2)
    return 1


FUNCTIONS = {each.__name__: each for each in (greet, greet_later, leak, decline, answer_with_a_set, sleep)}
INPUT = {"name": "Ada"}


@pytest.fixture
def runner() -> PythonRunner:
    return PythonRunner(FUNCTIONS)


async def test_a_function_gets_the_input_and_is_told_of_its_step(runner: PythonRunner) -> None:
    call = make_call(config("greet"), INPUT)
    assert (await runner.run(call)).output == {"text": "Hello, Ada", "key": f"{call.run_id}:draft:0"}
    assert (await runner.run(make_call(config("greet_later"), INPUT))).output == {"text": "draft Ada"}


async def test_what_blocks_does_not_stop_the_others(runner: PythonRunner) -> None:
    started = time.perf_counter()
    await asyncio.gather(*(runner.run(make_call(config("sleep"))) for _ in range(10)))
    assert time.perf_counter() - started < 1.5


async def test_a_failure_says_where_and_never_what_the_exception_says(
    runner: PythonRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config("leak"), {"name": "hunter2"}))
    assert (failed.value.code, failed.value.retryable) == ("function_failed", True)
    assert "leak raised ValueError at test_python_agent.py:" in failed.value.message
    assert "hunter2" not in failed.value.message + capsys.readouterr().err


async def test_an_exception_may_bring_a_code_of_its_own(runner: PythonRunner) -> None:
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config("decline"), INPUT))
    assert failed.value.code == "card_declined"


@pytest.mark.parametrize(
    ("function", "more", "code"),
    [
        ("nobody", "", "unknown_function"),
        ("answer_with_a_set", "", "invalid_output"),
        ("sleep", SCHEMA, "invalid_output"),
    ],
)
async def test_what_cannot_be_answered_is_refused(runner: PythonRunner, function: str, more: str, code: str) -> None:
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(function, more), INPUT))
    assert failed.value.code == code


def test_installed_packages_register_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "remit_test_greetings.py").write_text("def greet(input, step): return 1\n")
    about = tmp_path / "remit_test_greetings-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: remit-test-greetings\nVersion: 1.0\n")
    points = "[remit.agents]\nhello = remit_test_greetings:greet\nbroken = remit_test_no_such_module:f\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = installed_functions()
    assert found["hello"]({}, None) == 1  # type: ignore[arg-type]  # this one looks at neither
    assert "broken" not in found


async def test_the_sample_package_does_what_it_says() -> None:
    package = Path(__file__).parents[4] / "samples" / "python-agents"
    found = run_path(str(package / "greetings.py"))
    points = tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]["remit.agents"]
    runner = PythonRunner({name: found[value.partition(":")[2]] for name, value in points.items()})
    config_yaml = (package / "greet.agent.yaml").read_text()
    assert (await runner.run(make_call(config_yaml, INPUT))).output == {"text": "Hello, Ada!", "attempt": 1}
    assert (await runner.run(make_call(config("count_words"), {"text": "a b c"}))).output == {
        "words": 3,
        "node": "draft",
    }
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config_yaml, {"name": " "}))
    assert failed.value.code == "nobody"
