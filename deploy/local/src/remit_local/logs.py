"""Where the output of children goes: a rotating file for each, and whoever listens."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

Listener = Callable[[str, str], None]
_FILE_BYTES = 10_000_000
_OLD_FILES = 3
_LINE_BYTES = 32_768
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class ChildLog:
    """Cuts a child's output into lines, keeps them in `<name>.log` and its three predecessors, and tells a listener."""

    def __init__(self, folder: Path, name: str, listener: Listener | None = None) -> None:
        self.path = folder / f"{name}.log"
        self._name = name
        self._listener = listener
        self._rest = b""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of output; an endless line is cut."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        self._write(lines)

    def end(self) -> None:
        """Write what stands after the last line break."""
        if self._rest:
            self._write([self._rest])
            self._rest = b""

    def note(self, text: str) -> None:
        """Write a line of the supervisor's own."""
        self._write([f"-- {text}".encode()])

    def tail(self, lines: int = 20) -> str:
        """Return the last lines."""
        if not self.path.exists():
            return ""
        kept = self.path.read_bytes()[-_LINE_BYTES:].decode(errors="replace").splitlines()
        return "\n".join(kept[-lines:])

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            self._rotate()
            with self.path.open("ab") as file:
                file.write(b"\n".join(lines) + b"\n")
        except OSError:
            pass  # a full disk must not end the supervisor; listeners still see the lines
        if self._listener is not None:
            for line in lines:
                self._listener(self._name, line.decode(errors="replace").rstrip())

    def _rotate(self) -> None:
        if not self.path.exists() or self.path.stat().st_size < _FILE_BYTES:
            return
        for number in range(_OLD_FILES - 1, 0, -1):
            older = self.path.with_suffix(f".log.{number}")
            if older.exists():
                older.replace(self.path.with_suffix(f".log.{number + 1}"))
        self.path.replace(self.path.with_suffix(".log.1"))


class Console:
    """A listener that prints each line behind its child's name, in a colour of its own on a terminal."""

    def __init__(self, names: list[str], stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._coloured = stream.isatty()
        self._width = max(map(len, names), default=0)
        self._colour = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}

    def __call__(self, name: str, line: str) -> None:
        """Print one line."""
        prefix = f"{name:{self._width}} |"
        if self._coloured:
            prefix = f"\x1b[{self._colour.get(name, 37)}m{prefix}\x1b[0m"
        try:
            self._stream.write(f"{prefix} {line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; the children are not
