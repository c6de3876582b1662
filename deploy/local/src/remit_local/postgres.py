"""A private PostgreSQL: own folder, loopback only, SCRAM passwords, never alive without us."""

import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from remit_local.binaries import postgres_folder
from remit_local.environment import server_environment
from remit_local.loopback import first_answer, kept_port
from remit_local.private_files import kept_secret
from remit_local.process import Command, ServerError, give_to_server
from remit_local.server import Server

_SUPERUSER = "postgres"
_PROTOCOL_3 = 196_608
_ASKS_FOR_PASSWORD = b"R"
_QUICK_RECOVERY = {"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}
"""After a crash one call per file system instead of one per file, of which six databases have thousands."""


class Postgres(Server):
    """A PostgreSQL server in a folder of its own; data survive stop, kill and restart on the same folder."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        fsync: bool = True,
        max_connections: int = 100,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir)
        self._wanted_port = port
        self._fsync = fsync
        # Tests connect thousands of times, and what makes SCRAM safe takes 20 ms of each.
        self._passwords = "scram-sha-256" if fsync else "md5"
        self._settings = {"max_connections": str(max_connections), **(settings or {})}
        self._programs: Path | None = None

    @property
    def port(self) -> int:
        """The loopback port; known once the server has been prepared, and kept over restarts while it is free."""
        return int((self.folder / "port").read_text())

    @property
    def superuser_url(self) -> str:
        """The URL of the superuser on the database `postgres`."""
        return self.url("postgres", _SUPERUSER, kept_secret(self.folder / "password"))

    def url(self, database: str, user: str, password: str) -> str:
        """Return the URL of a database on this server for a user."""
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def settle_ports(self) -> None:
        """Choose the port, so that clients can be told of it before the server runs."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept_port(self.folder / "port", self._wanted_port)

    def prepare(self) -> Command:
        """Make the cluster the first time, settle the port, and return the command that starts the server."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._programs = postgres_folder()
        self.end_leftover()
        cluster = self.folder / "cluster"
        if not cluster.exists():
            self._make_cluster(cluster)
        self.settle_ports()
        give_to_server(self.folder)
        arguments = (argument for name, value in self._options().items() for argument in ("-c", f"{name}={value}"))
        # SIGQUIT ends all sessions at once without a checkpoint: nothing is left behind, nothing committed is lost.
        return self._command("postgres", "-D", str(cluster), *arguments, death_signal=signal.SIGQUIT)

    def is_ready(self) -> bool:
        """Tell whether the server accepts sessions: during recovery it refuses them before asking for a password."""
        names = b"".join(part + b"\0" for part in (b"user", _SUPERUSER.encode(), b"database", b"postgres", b""))
        hello = struct.pack("!ii", len(names) + 8, _PROTOCOL_3) + names
        return first_answer(self.port, hello, 1) == _ASKS_FOR_PASSWORD

    def _options(self) -> dict[str, str]:
        unsafe = {} if self._fsync else {"fsync": "off", "full_page_writes": "off"}
        return {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "password_encryption": self._passwords,
            "log_min_messages": "warning",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **_QUICK_RECOVERY,
            **unsafe,
            **self._settings,
        }

    def _make_cluster(self, cluster: Path) -> None:
        """Build beside and rename, so that a crash in between leaves no half cluster."""
        beside = self.folder / "cluster.new"
        shutil.rmtree(beside, ignore_errors=True)
        kept_secret(self.folder / "password")
        give_to_server(self.folder)
        outcome = self._initdb(beside, "C.UTF-8")
        if outcome.returncode and "locale" in outcome.stderr:  # not every system has C.UTF-8
            shutil.rmtree(beside, ignore_errors=True)
            outcome = self._initdb(beside, "C")
        if outcome.returncode:
            message = f"PostgreSQL could not make its files in {self.folder}: {outcome.stderr.strip()}"
            raise ServerError(message)
        beside.rename(cluster)

    def _initdb(self, cluster: Path, locale: str) -> subprocess.CompletedProcess[str]:
        command = self._command(
            *("initdb", "-D", str(cluster), "-U", _SUPERUSER, "-E", "UTF8", f"--locale={locale}"),
            *("-A", self._passwords, f"--pwfile={self.folder / 'password'}", *([] if self._fsync else ["--no-sync"])),
        )
        return subprocess.run(
            command.launched(), env=command.env, cwd=command.cwd, capture_output=True, text=True, check=False
        )

    def _command(self, program: str, *arguments: str, death_signal: signal.Signals = signal.SIGKILL) -> Command:
        folder = self._programs or postgres_folder()
        argv = (str(folder / program), *arguments)
        return Command(argv, server_environment({"LC_ALL": "C"}), self.folder, death_signal, unprivileged=True)
