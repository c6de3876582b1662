"""Processes that start before their turn: they import while the servers still boot, then wait here.

Each start of a platform has a turn of its own; the preparing process writes it down when everything is ready.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from remit_local.platform.deployment import Answering, Deployment
from remit_local.platform.installation import Installation
from remit_local.private_files import write_private

TURN = "REMIT_TURN"
_TURN_FILE = "REMIT_TURN_FILE"
_POLL_SECONDS = 0.02
WAIT_SECONDS = 280


def turn_to_wait_for(installation: Installation) -> Mapping[str, str]:
    """Return what tells a process for which turn to wait, and where it is written down."""
    return {TURN: installation.turn, _TURN_FILE: str(_file(installation))}


def await_turn() -> None:
    """Return when the platform is prepared; at once for a process that was told of no turn."""
    turn, file = os.environ.get(TURN), os.environ.get(_TURN_FILE)
    if turn and file:
        _wait(lambda: _read(Path(file)) == turn, "databases and queues")


def await_server(server: Answering) -> None:
    """Return when a server answers."""
    _wait(server.is_ready, server.name)


def announce_turn(deployment: Deployment) -> None:
    """Write down that everything is prepared."""
    write_private(_file(deployment), os.environ.get(TURN, ""))


def _wait(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not check():
        if time.monotonic() > deadline:
            sys.exit(f"no {what} within {WAIT_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _file(deployment: Deployment) -> Path:
    return deployment.folder / "turn"
