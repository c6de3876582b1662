from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from remit_local.dev.check import report
from remit_local.dev.commands import Outcome, Step, program, run_all

if TYPE_CHECKING:
    from pathlib import Path

MEET = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
"""


def python(name: str, text: str, *arguments: str) -> Step:
    return Step(name, (sys.executable, "-c", text, *arguments))


@pytest.mark.anyio
async def test_outcomes_come_in_order_with_code_and_output(tmp_path: Path) -> None:
    steps = [python("bad", "import sys; print('no'); sys.exit(3)"), python("good", "print('yes')")]
    bad, good = await run_all(steps, root=tmp_path)
    assert (bad.step.name, bad.code, bad.output) == ("bad", 3, "no\n")
    assert (good.step.name, good.code, good.output) == ("good", 0, "yes\n")


@pytest.mark.anyio
async def test_two_run_side_by_side(tmp_path: Path) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    steps = [python("first", MEET, here, there), python("second", MEET, there, here)]
    assert [outcome.code for outcome in await run_all(steps, cores=2, root=tmp_path)] == [0, 0]


def test_a_report_shows_the_output_of_failures_only_and_fails() -> None:
    screen = io.StringIO()
    outcomes = [
        Outcome(Step("lint", ("ruff", "check")), 1, 0.5, "a [bold] line is wrong\n"),
        Outcome(Step("types", ("mypy",)), 0, 0.5, "all well\n"),
    ]
    assert report(outcomes, 1.0, Console(file=screen, width=100)) == 1
    assert "a [bold] line is wrong" in screen.getvalue()
    assert "all well" not in screen.getvalue()
    assert report(outcomes[1:], 1.0, Console(file=screen, width=100)) == 0


def test_a_program_is_taken_from_this_environment_first() -> None:
    assert program("pytest").startswith(str(sys.prefix))
    assert program("no-such-program") == "no-such-program"
