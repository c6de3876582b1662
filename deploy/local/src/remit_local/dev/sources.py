"""How long files and functions are."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from remit_local.dev.workspace import ROOT, package_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE_LINES_LISTED = 300
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 50
CHASSIS_LINES_MAX = 3_000


@dataclass(frozen=True)
class FunctionSize:
    """A function's place and length."""

    name: str
    line: int
    lines: int


@dataclass(frozen=True)
class SourceFile:
    """A file's place, length and functions."""

    path: Path
    lines: int
    functions: tuple[FunctionSize, ...]


def read_source(path: Path) -> SourceFile:
    """Measure one file; a function is counted from its `def` to its last line."""
    text = path.read_text(encoding="utf-8")
    functions = tuple(
        FunctionSize(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(text, str(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return SourceFile(path, text.count("\n"), functions)


def read_sources(root: Path = ROOT, *, tests: bool = False) -> list[SourceFile]:
    """Measure the product's files, or with `tests` those of its tests."""
    folder = "tests" if tests else "src"
    roots = [package / folder for package in package_folders(root)] + ([root / "tests"] if tests else [])
    return [read_source(path) for top in roots for path in sorted(top.rglob("*.py"))]


def long_files(sources: Sequence[SourceFile], limit: int = FILE_LINES_MAX) -> list[str]:
    """Name the files above the limit with their length."""
    return [f"{source.path}: {source.lines} lines, at most {limit}" for source in sources if source.lines > limit]


def long_functions(sources: Sequence[SourceFile], limit: int = FUNCTION_LINES_MAX) -> list[str]:
    """Name the functions above the limit with their length."""
    return [
        f"{source.path}:{function.line}: {function.name} has {function.lines} lines, at most {limit}"
        for source in sources
        for function in source.functions
        if function.lines > limit
    ]


def library_lines(sources: Sequence[SourceFile], name: str) -> int:
    """Count a library of `libs/` without its test kit."""
    parts = [(source, source.path.parts) for source in sources]
    return sum(s.lines for s, at in parts if name in at and "src" in at and "testing" not in at)


def median_and_p90(lengths: Sequence[int]) -> tuple[int, int]:
    """Give the median and the 90th percentile, rounded down; zeros when there is nothing to measure."""
    if len(lengths) < 2:
        return (lengths[0], lengths[0]) if lengths else (0, 0)
    cuts = quantiles(lengths, n=10, method="inclusive")
    return int(cuts[4]), int(cuts[8])
