"""`./dev check`: every rule a machine can enforce, in under a minute."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from remit_local.dev.commands import Outcome, Step, program, run_all
from remit_local.dev.measures import lengths
from remit_local.dev.sources import read_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

ITSELF = (sys.executable, "-m", "remit_local.dev")
# The longest first: with two cores the whole then takes hardly longer than the longest.
STEPS = (
    Step("types", (program("mypy"),)),
    Step("architecture", (program("pytest"), "-q", "-n0", "tests/architecture", "--ignore=tests/architecture/plants")),
    Step("openapi", (*ITSELF, "openapi", "--check")),
    Step("imports", (program("lint-imports"), "--no-logo")),
    Step("schemas", (*ITSELF, "schemas", "--check")),
    Step("lint", (program("ruff"), "check", "--output-format=concise")),
    Step("format", (program("ruff"), "format", "--check", "--output-format=concise")),
)


def _table(outcomes: Sequence[Outcome], seconds: float) -> Table:
    table = Table(box=None, title_justify="left", header_style="dim")
    table.add_column("check")
    table.add_column("result")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        result = "[red]failed[/]" if outcome.code else "[green]passed[/]"
        table.add_row(outcome.step.name, result, f"{outcome.seconds:.1f}")
    table.add_row("[dim]together[/]", "", f"{seconds:.1f}")
    return table


def report(outcomes: Sequence[Outcome], seconds: float, console: Console) -> int:
    """Print what failed in full, then the table; give 1 when anything failed."""
    for outcome in outcomes:
        if outcome.code:
            console.rule(f"{outcome.step.name}: {' '.join(outcome.step.argv[1:]) or 'all'}", align="left")
            console.print(outcome.output.rstrip(), markup=False, highlight=False, soft_wrap=True)
    console.print(_table(outcomes, seconds))
    console.print(*lengths(read_sources()), sep="\n", style="dim", highlight=False, soft_wrap=True)
    return int(any(outcome.code for outcome in outcomes))


def check(names: Sequence[str]) -> int:
    """Run the named checks, or all of them, side by side."""
    started = time.monotonic()
    chosen = [step for step in STEPS if not names or step.name in names]
    outcomes = asyncio.run(run_all(chosen))
    return report(outcomes, time.monotonic() - started, Console())
