"""What the kernel says about processes: processor time, memory, who descends from whom."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _REAPED_SYSTEM = 1, 11, 14
"""Places in /proc/PID/stat behind the name: the parent; user, system and both of ended children."""


def processor_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, and of their children that have ended."""
    return sum(sum(map(int, _stat(pid)[_USER : _REAPED_SYSTEM + 1])) for pid in pids) / TICKS


def family(pid: int) -> list[int]:
    """This process and everything that descends from it."""
    children: dict[int, list[int]] = {}
    for each in _all():
        children.setdefault(int(_stat(each)[_PARENT]), []).append(each)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def named(pids: Iterable[int], name: str) -> list[int]:
    """Those whose program's name begins with this."""
    return [pid for pid in pids if _program(pid).startswith(name)]


def memory_mb(pids: Iterable[int]) -> float:
    """Proportional set size: what is shared is counted once among those who share it."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and (path / "stat").exists()]


def _stat(pid: int) -> list[str]:
    try:
        # The name stands in parentheses and may itself hold spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""
