"""What went wrong, for a person or for a program, and the exit code it leaves."""

from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape

FAILED, UNREACHABLE, RUN_NOT_COMPLETED = 1, 3, 4
EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the edge cannot be reached; "
    "4 the run ended, but not completed."
)


class CliError(Exception):
    """Something the caller can do something about; the text says what."""

    exit_code = FAILED


class UnreachableError(CliError):
    """The edge does not answer."""

    exit_code = UNREACHABLE


class RefusedError(CliError):
    """The edge answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"status {status}")
        self.status = status
        self.problem = problem

    @property
    def code(self) -> str:
        """The stable, machine-readable name of the problem."""
        return str(self.problem.get("code", ""))


def show_failure(error: CliError, *, as_json: bool) -> None:
    """Print an error to stderr, with code and trace id where the edge gave them."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    problem: dict[str, Any] = error.problem if isinstance(error, RefusedError) else {"detail": str(error)}
    if as_json:
        console.file.write(orjson.dumps({"error": problem}).decode() + "\n")
        return
    console.print(f"[bold red]error:[/] {escape(str(error))}")
    for each in problem.get("errors", ()):
        where = ".".join(str(part) for part in each.get("loc", ()))
        what = each.get("message") or each.get("detail") or each
        console.print(f"  {escape(where)}: {escape(str(what))}" if where else f"  {escape(str(what))}")
    if isinstance(error, RefusedError):
        trace = f", trace {problem['trace_id']}" if problem.get("trace_id") else ""
        console.print(f"  [dim]{escape(error.code)} ({error.status}){trace}[/]")
