"""What is wrong with a definition, where in its text, said all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from chassis.errors import InvalidError

MAX_PROBLEMS = 50
NOT_SUPPORTED_YET = "not_supported_yet"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to repair in a definition; line and column count from 1."""

    line: int
    column: int
    path: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message} ({self.code})"


class DefinitionError(InvalidError):
    """A definition cannot be accepted; `problems` holds everything found, in the order of the text."""

    code = "invalid_definition"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems))[:MAX_PROBLEMS])
        super().__init__(
            "; ".join(str(problem) for problem in self.problems[:3]),
            errors=[asdict(problem) for problem in self.problems],
        )
