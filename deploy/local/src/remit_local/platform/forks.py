"""`python -m remit_local.platform.forks FILE`: one process per service and role, imported once and forked.

For fault tests and benchmarks: FILE tells the pid of each (`execution.work`), and who dies is forked again.
"""

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

from contracts.catalog import SERVICES
from remit_local.platform.host import build_one
from remit_local.platform.turns import await_turn
from remit_local.private_files import write_private
from spine.process import run

ROLES = ("api", "work")
_PAUSE_SECONDS = 0.05
_LIBC = ctypes.CDLL(None)
_DIE_WITH_PARENT = 1


def keep_forked(pid_file: Path) -> None:
    """Fork every service's roles, and those that end anew, until SIGTERM."""
    running: dict[int, str] = {}
    for name in (f"{service}.{role}" for service in SERVICES for role in ROLES):
        running[_fork(name)] = name
    _tell(pid_file, running)
    signal.signal(signal.SIGTERM, lambda *_: _end(running))
    signal.signal(signal.SIGINT, lambda *_: _end(running))
    while running:
        pid, _ = os.wait()
        if pid not in running:
            continue
        name = running.pop(pid)
        time.sleep(_PAUSE_SECONDS)
        running[_fork(name)] = name
        _tell(pid_file, running)


def _fork(name: str) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    service, _, role = name.partition(".")
    code = 1
    try:
        run([build_one(service)], role)
        code = 0
    except SystemExit as end:
        sys.stderr.write(f"{name}: {end.code}\n")
    finally:
        os._exit(code)


def _end(running: dict[int, str]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while running and time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        running.pop(pid, None)
        if not pid:
            time.sleep(0.02)
    os._exit(0)


def _tell(pid_file: Path, running: dict[int, str]) -> None:
    write_private(pid_file, json.dumps({name: pid for pid, name in running.items()}))


if __name__ == "__main__":
    await_turn()
    keep_forked(Path(sys.argv[1]))
