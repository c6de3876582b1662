"""One supervisor per data folder: a lock the kernel frees when it dies, and a file that says how it does."""

import fcntl
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from remit_local.private_files import write_private
from remit_local.process import ServerError, is_alive

_LOCK = "lock"
_STATE = "state.json"
_PATIENCE = 10


class AlreadyRunningError(ServerError):
    """Another supervisor owns the data folder."""


@dataclass(frozen=True)
class Status:
    """What a running supervisor last wrote about itself: its process, its state and its children's."""

    pid: int
    state: str
    children: dict[str, dict[str, Any]]
    details: dict[str, Any]


class Presence:
    """The ownership of a data folder, from construction until `release` or death."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _lock(folder)
        for _ in range(_PATIENCE):  # whoever asks for the status holds the lock for a moment
            if self._lock is not None:
                break
            time.sleep(0.02)
            self._lock = _lock(folder)
        if self._lock is None:
            message = f"{folder} is in use by another process"
            raise AlreadyRunningError(message)
        (folder / _STATE).unlink(missing_ok=True)  # of one that was killed

    def write(self, state: str, children: dict[str, dict[str, Any]], details: dict[str, Any]) -> None:
        """Say how we do; a full disk costs the news, not the supervisor."""
        content = {"pid": os.getpid(), "state": state, "children": children, "details": details}
        try:
            write_private(self._folder / _STATE, json.dumps(content, indent=1))
        except OSError:
            return

    def release(self) -> None:
        """Give the folder up."""
        (self._folder / _STATE).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def status(folder: Path) -> Status | None:
    """Return how the supervisor of the data folder does, or nothing when none runs."""
    if not (folder / _LOCK).exists():
        return None
    lock = _lock(folder)
    if lock is not None:
        lock.close()
        return None
    try:
        found = Status(**json.loads((folder / _STATE).read_text()))
    except FileNotFoundError:
        found = None
    # Whoever has just taken the folder has said nothing yet: what lies there is of one that was killed.
    return found if found is not None and is_alive(found.pid) else Status(0, "starting", {}, {})


def stop_running(folder: Path, timeout_seconds: float = 60) -> bool:
    """Stop the supervisor of the data folder, kill it when it takes longer; tell whether there was one."""
    running = status(folder)
    if running is None or not running.pid:
        return False
    _signal(running.pid, signal.SIGTERM)
    if not _ended(folder, timeout_seconds):
        _signal(running.pid, signal.SIGKILL)  # its children die with it
        _ended(folder, 10)
    return True


def _ended(folder: Path, timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while status(folder) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _lock(folder: Path) -> IO[bytes] | None:
    lock = (folder / _LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
