"""Processes that die with us: start them, look at them, end them and all they started."""

import functools
import os
import pwd
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_LAUNCH = Path(__file__).with_name("launch.py")
_FALLBACK_USERS = ("postgres", "nobody")
_ZOMBIE = "Z"


class ServerError(Exception):
    """A private server could not be found, started or ended; the text says what to do."""


@dataclass(frozen=True)
class Command:
    """A program to start: its arguments, whole environment, folder, and the signal it gets when we die."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # carries passwords
    cwd: Path = Path("/")
    death_signal: signal.Signals = signal.SIGKILL
    unprivileged: bool = False

    def launched(self) -> list[str]:
        """Return the arguments that really start it: as our child, without root's rights where so asked."""
        user = unprivileged_user() if self.unprivileged else "same"
        wrap = (sys.executable, "-I", "-S", str(_LAUNCH), str(int(self.death_signal)), str(os.getpid()), user)
        return [*wrap, *self.argv]


@functools.cache
def unprivileged_user() -> str:
    """Return how servers that refuse root are started: `same`, `mapped` or `UID:GID`."""
    if os.geteuid() != 0:
        return "same"
    probe = Command(("true",), {}).launched()
    probe[-2] = "mapped"
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return "mapped"
    for name in _FALLBACK_USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return f"{found.pw_uid}:{found.pw_gid}"
    message = "running as root, and there is neither a user namespace nor a user 'nobody' to run PostgreSQL as"
    raise ServerError(message)


def give_to_server(folder: Path) -> None:
    """Make the folder and all in it belong to the user that servers run as."""
    user = unprivileged_user()
    if user == "same":
        return
    uid, gid = (0, 0) if user == "mapped" else (int(number) for number in user.split(":"))
    for path in (folder, *folder.rglob("*")):
        if path.lstat().st_uid != uid:
            os.chown(path, uid, gid, follow_symlinks=False)


class _Spawner:
    """One thread that never ends: the kernel's parent-death signal is about the thread that forked, not the process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._requests: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], Command, IO[bytes]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._serve, name="spawner", daemon=True).start()

    def spawn(self, command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
        started: Future[subprocess.Popen[bytes]] = Future()
        self._requests.put((started, command, output))
        return started.result()

    def _serve(self) -> None:
        while True:
            started, command, output = self._requests.get()
            try:
                started.set_result(_open(command, output))
            except OSError as error:
                started.set_exception(error)


def _open(command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.launched(),
        env=dict(command.env),
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


_spawner: list[_Spawner] = []
_spawner_lock = threading.Lock()


def spawn(command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the command as a child that lives at most as long as this process, whichever thread asks."""
    with _spawner_lock:
        if not _spawner or _spawner[0].pid != os.getpid():
            _spawner[:] = [_Spawner()]
        spawner = _spawner[0]
    return spawner.spawn(command, output)


def process_table() -> dict[int, tuple[int, str, str]]:
    """Return `{pid: (parent, state, start)}` of all processes; pid and start together name one process for ever."""
    if sys.platform == "linux":
        return dict(_linux_processes())
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state=,lstart="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (line.split(None, 3) for line in listing.splitlines())
    return {int(pid): (int(parent), state[0], start) for pid, parent, state, start in rows}


def _linux_processes() -> list[tuple[int, tuple[int, str, str]]]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The program's name, in parentheses, may hold spaces and parentheses itself.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        found.append((int(folder.name), (int(fields[1]), fields[0], fields[19])))
    return found


def is_alive(pid: int, start: str | None = None) -> bool:
    """Tell whether the process runs (a zombie does not); with `start`, whether it is still that same process."""
    row = process_table().get(pid)
    return row is not None and row[1] != _ZOMBIE and start in (None, row[2])


def family(pid: int) -> list[int]:
    """Return the process and everything that descends from it, parents first."""
    table = process_table()
    members = [pid]
    for member in members:
        members.extend(child for child, (parent, _, _) in table.items() if parent == member)
    return members


def kill_family(pid: int, timeout_seconds: float = 10) -> None:
    """Kill the process with all its descendants, and return when none of them is left."""
    members = family(pid)
    for member in members:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not any(is_alive(member) for member in members), timeout_seconds, f"end of process {pid}")


def wait_until(check: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Return as soon as the check holds, or raise ServerError naming what was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while not check():
        if time.monotonic() > deadline:
            message = f"no {what} within {timeout_seconds:.0f} s"
            raise ServerError(message)
        time.sleep(0.02)
