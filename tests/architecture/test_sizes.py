from __future__ import annotations

import pytest

from remit_local.dev.measures import lengths
from remit_local.dev.sources import (
    CHASSIS_LINES_MAX,
    FILE_LINES_LISTED,
    SourceFile,
    library_lines,
    long_files,
    long_functions,
    read_sources,
)


@pytest.fixture(scope="module")
def sources() -> list[SourceFile]:
    return read_sources()


def test_files_are_short(sources: list[SourceFile]) -> None:
    assert not long_files(sources)
    assert not long_files(read_sources(tests=True))


def test_functions_are_short(sources: list[SourceFile]) -> None:
    assert not long_functions(sources)


def test_the_chassis_is_small(sources: list[SourceFile]) -> None:
    assert 0 < library_lines(sources, "chassis") <= CHASSIS_LINES_MAX
    assert 0 < library_lines(sources, "spine") <= CHASSIS_LINES_MAX


def test_lengths_are_measured(sources: list[SourceFile]) -> None:
    first, *listed = lengths(sources)
    print(f"\n{first}")
    assert first.startswith(f"{len(sources)} files: median ")
    assert len(listed) == len(long_files(sources, FILE_LINES_LISTED))
