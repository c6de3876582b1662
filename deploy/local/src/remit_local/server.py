"""What private PostgreSQL, RabbitMQ and epmd have in common: one child with a folder, started, watched and ended."""

import asyncio
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from remit_local.private_files import write_private
from remit_local.process import Command, ServerError, is_alive, kill_family, process_table, spawn, wait_until

_LOG_TAIL_BYTES = 2_000


class Server(ABC):
    """A child process with its own folder; `start` returns when it serves, and it never outlives this process."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> Command:
        """Make everything the server needs on disk and return the command that starts it."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether the server answers its clients now."""

    @property
    def pid(self) -> int | None:
        """The server's process, or nothing while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log_file(self) -> Path:
        """Where the server's output goes when no supervisor reads it."""
        return self.folder / f"{self.name}.log"

    def start(self, timeout_seconds: float = 90) -> None:
        """Start the server, or do nothing when it runs; return when it serves; blocks (see `start_async`)."""
        if self.pid is not None:
            return
        command = self.prepare()
        with self.log_file.open("ab") as log:
            self._process = spawn(command, log)
        self.remember(self._process.pid)
        try:
            wait_until(self._is_ready_or_dead, timeout_seconds, f"answer of {self.name}")
        except ServerError:
            self.kill()
            raise

    def stop(self, timeout_seconds: float = 20) -> None:
        """Ask the server to end, wait, and kill it when it takes longer; nothing of it is left afterwards."""
        if self._process is None or self.pid is None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server and all its processes at once, as a crash would."""
        if self._process is None:
            return
        if self.pid is not None:
            kill_family(self._process.pid)
        self._process.wait()

    async def start_async(self, timeout_seconds: float = 90) -> None:
        """Start the server without blocking the event loop."""
        await asyncio.to_thread(self.start, timeout_seconds)

    async def stop_async(self, timeout_seconds: float = 20) -> None:
        """Stop the server without blocking the event loop."""
        await asyncio.to_thread(self.stop, timeout_seconds)

    def remember(self, pid: int) -> None:
        """Write down who runs on this folder, so that the next start can wait for it or end it."""
        row = process_table().get(pid)
        if row is not None:
            write_private(self._pid_file, f"{pid} {row[2]}")

    def end_leftover(self) -> None:
        """End a server that a crashed predecessor left on this folder; a dying one gets a moment first."""
        if not self._pid_file.exists():
            return
        number, _, start = self._pid_file.read_text().partition(" ")
        deadline = time.monotonic() + 3
        while is_alive(int(number), start) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_alive(int(number), start):
            kill_family(int(number))

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def _is_ready_or_dead(self) -> bool:
        if self.pid is None:
            code = self._process.returncode if self._process else None
            message = f"{self.name} ended with {code} while starting; {self.log_file} says:\n{self._log_tail()}"
            raise ServerError(message)
        return self.is_ready()

    def _log_tail(self) -> str:
        if not self.log_file.exists():
            return ""
        return self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
