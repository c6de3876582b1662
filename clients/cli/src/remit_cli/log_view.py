"""What the processes of a platform wrote, each line behind its process's name."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from contracts.catalog import SERVICES
from remit_cli.failures import CliError
from remit_local.logs import Console

HOST = "remit"
_POLL_SECONDS = 0.2


class Place(NamedTuple):
    """How far a file has been read; another inode under the name means that it was rotated."""

    inode: int
    offset: int


def show_logs(folder: Path, name: str | None, *, lines: int, follow: bool) -> None:
    """Print the last lines of one process or of all, and go on as more come if asked to."""
    files = _files(folder, name)
    word = name if name in SERVICES else None
    show = Console([file.stem for file in files], sys.stdout)
    places = {file: _print_last(file, lines, word, show) for file in files}
    while follow:
        time.sleep(_POLL_SECONDS)
        for file in files:
            places[file] = _print_more(file, places[file], word, show)


def _files(folder: Path, name: str | None) -> list[Path]:
    found = sorted(folder.glob("*.log"))
    if name is None:
        wanted = found
    else:
        stem = HOST if name in SERVICES else name  # the services share their processes' log
        wanted = [file for file in found if file.stem == stem]
    if not wanted:
        names = ", ".join(file.stem for file in found)
        raise CliError(f"no log of {name or 'anything'} in {folder}{f'; there are: {names}' if names else ''}")
    return wanted


def _print_last(file: Path, lines: int, word: str | None, show: Console) -> Place:
    with file.open("rb") as opened:
        content = opened.read()
        place = Place(file.stat().st_ino, len(content))
    texts = list(_with(content.decode(errors="replace").splitlines(), word))
    for text in texts[-lines:] if lines else ():
        show(file.stem, text)
    return place


def _print_more(file: Path, place: Place, word: str | None, show: Console) -> Place:
    try:
        found = file.stat()
    except FileNotFoundError:
        return place
    start = place.offset if found.st_ino == place.inode and found.st_size >= place.offset else 0
    with file.open("rb") as opened:
        opened.seek(start)
        content = opened.read()
    whole, _, _ = content.rpartition(b"\n")
    if whole:
        for text in _with(whole.decode(errors="replace").splitlines(), word):
            show(file.stem, text)
    return Place(found.st_ino, start + (len(whole) + 1 if whole else 0))


def _with(lines: Iterable[str], word: str | None) -> Iterable[str]:
    return lines if word is None else (line for line in lines if word in line)
