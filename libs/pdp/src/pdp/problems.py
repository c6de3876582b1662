"""What is wrong with a policy's text, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to correct; `line` and `column` count from 1, `code` is stable."""

    line: int
    column: int
    message: str
    code: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column} {self.code}: {self.message}"


class DocumentError(ValueError):
    """A policy's text that cannot be used, with everything that is wrong with it, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class BundleError(ValueError):
    """Policies that cannot be compiled together; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
