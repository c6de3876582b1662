"""What the house measures about itself: lengths, and the files read per mutating route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit_local.dev.sources import (
    CHASSIS_LINES_MAX,
    FILE_LINES_LISTED,
    SourceFile,
    library_lines,
    long_files,
    median_and_p90,
    read_sources,
)
from remit_local.dev.verticals import verticals
from remit_local.dev.workspace import ROOT, standing_services

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def lengths(sources: Sequence[SourceFile]) -> list[str]:
    """Say how long files and functions are, and name the files to split soon."""
    files = median_and_p90([source.lines for source in sources])
    functions = median_and_p90([function.lines for source in sources for function in source.functions])
    summary = (
        f"{len(sources)} files: median {files[0]} lines, p90 {files[1]}; "
        f"functions: median {functions[0]}, p90 {functions[1]}; "
        f"chassis: {library_lines(sources, 'chassis')}, spine: {library_lines(sources, 'spine')} "
        f"of {CHASSIS_LINES_MAX} lines"
    )
    return [
        summary,
        *(f"split soon: {line}" for line in long_files(sources, FILE_LINES_LISTED)),
    ]


def routes(root: Path = ROOT) -> list[str]:
    """Say for each mutating route of each service which files its reader opens."""
    return [
        f"{service}: {vertical.route}: {len(vertical.files)} files: {', '.join(vertical.files)}"
        for service in standing_services(root)
        for vertical in verticals(service, root)
    ]


def measure() -> list[str]:
    """Say all of it."""
    return lengths(read_sources()) + routes()
