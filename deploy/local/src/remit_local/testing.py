"""pytest plugin: one PostgreSQL and one RabbitMQ per test session, started when the first test asks for them.

Configured URLs first (`REMIT_TEST_POSTGRES_URL`, `REMIT_TEST_AMQP_URL`, `REMIT_TEST_STREAM_URL`), else containers where
an engine answers, else private servers. Under xdist the controlling process owns the servers and its workers ask it.
"""

import os
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import pytest

from remit_local.environment import setting
from remit_local.postgres import Postgres
from remit_local.process import ServerError, is_alive, process_table
from remit_local.rabbitmq import RabbitMQ

_FOLDER_PREFIX = "remit-tests-"
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 * 1024**3  # noqa: S108  (in a folder of our own, mode 0700)
_OWNER = pytest.StashKey["SessionServers"]()
_ADDRESS = "remit_servers_address"


@dataclass(frozen=True)
class Servers:
    """Where the test session's servers are; each URL carries administrator rights."""

    postgres_url: str
    amqp_url: str
    stream_url: str


class SessionServers:
    """Starts the servers when first asked, from whichever thread or xdist worker, and ends them with the session."""

    def __init__(self, within: Path | None = None) -> None:
        self._within = within or _roomiest()
        self._lock = threading.Lock()
        self._cleanup = ExitStack()
        self._servers: Servers | None = None
        self._failure: Exception | None = None
        self._told = False
        self._folder: Path | None = None
        self._listener: Listener | None = None

    def get(self) -> Servers:
        """Return the servers, started when they are not yet; what failed once fails everybody who asks."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._servers is None:
                try:
                    self._servers = _configured() or self._start()
                except Exception as error:
                    self._failure = error
                    raise
            return self._servers

    def address(self) -> str:
        """Return where other processes of this user can ask for the servers."""
        if self._listener is None:
            self._listener = Listener(str(self._private_folder() / "ask"), "AF_UNIX")
            threading.Thread(target=self._answer, args=(self._listener,), name="test-servers", daemon=True).start()
        return str(self._listener.address)

    def close(self) -> None:
        """End the servers and remove their data."""
        if self._listener is not None:
            self._listener.close()
        self._cleanup.close()

    def _start(self) -> Servers:
        folder = self._private_folder()
        if setting("TEST_SERVERS") != "private":
            from remit_local import containers  # its import costs every session, its use is rare

            if containers.engine_answers():
                return Servers(*containers.start_containers(self._cleanup, folder))
        return self._start_private(folder)

    def _start_private(self, folder: Path) -> Servers:
        postgres = Postgres(folder / "postgres", fsync=False, max_connections=300)
        rabbitmq = RabbitMQ(folder / "rabbitmq")
        self._cleanup.callback(postgres.kill)
        self._cleanup.callback(rabbitmq.kill)
        # Both at once: on a fresh machine each takes seconds of mostly its own core.
        with ThreadPoolExecutor(1) as beside:
            starting = beside.submit(postgres.start)
            rabbitmq.start(timeout_seconds=180)
            starting.result()
        return Servers(postgres.superuser_url, rabbitmq.amqp_url, rabbitmq.stream_url)

    def _private_folder(self) -> Path:
        if self._folder is None:
            _remove_abandoned(self._within)
            self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=self._within))
            _write_owner(self._folder)
            self._cleanup.callback(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def _answer(self, listener: Listener) -> None:
        while True:
            try:
                asking = listener.accept()
            except OSError:  # closed: the session is over
                return
            with suppress(OSError), asking:
                try:
                    asking.send(astuple(self.get()))
                except Exception as error:  # noqa: BLE001  (the worker that asked has to hear of it)
                    self._tell(error)
                    asking.send(str(error))

    def _tell(self, error: Exception) -> None:
        """Say once, where a person reads it, what a worker's own report would lose."""
        if not self._told:
            self._told = True
            sys.stderr.write(f"\nno test servers: {error}\n")


def _write_owner(folder: Path) -> None:
    pid = os.getpid()
    (folder / "owner").write_text(f"{pid} {process_table()[pid][2]}")


def _roomiest() -> Path:
    """Where the servers' files go: into memory where there is room, for a test's database is a thousand small files."""
    told = os.environ.get("TMPDIR")
    with suppress(OSError):
        if not told and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


def _remove_abandoned(within: Path) -> None:
    """Remove what killed test sessions left there."""
    for folder in within.glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError, ValueError):
            pid, _, start = (folder / "owner").read_text().partition(" ")
            if not is_alive(int(pid), start):
                shutil.rmtree(folder, ignore_errors=True)


def _configured() -> Servers | None:
    urls = [setting(name) for name in ("TEST_POSTGRES_URL", "TEST_AMQP_URL", "TEST_STREAM_URL")]
    if not any(urls):
        return None
    postgres_url, amqp_url, stream_url = urls
    if postgres_url and amqp_url and stream_url:
        return Servers(postgres_url, amqp_url, stream_url)
    message = "set all of REMIT_TEST_POSTGRES_URL, REMIT_TEST_AMQP_URL and REMIT_TEST_STREAM_URL, or none"
    raise pytest.UsageError(message)


def pytest_configure(config: pytest.Config) -> None:
    """Prepare, without starting anything."""
    if not hasattr(config, "workerinput"):
        config.stash[_OWNER] = SessionServers()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the session started."""
    owner = config.stash.get(_OWNER, None)
    if owner is not None:
        owner.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker, before it starts, where to ask for the servers."""
    node.workerinput[_ADDRESS] = node.config.stash[_OWNER].address()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the servers before the first test's clock runs, where a collected test wants them."""
    if session.config.option.collectonly:
        return
    if any("servers" in getattr(item, "fixturenames", ()) for item in session.items):
        _ask(session.config)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """Return the URLs of this test session's PostgreSQL and RabbitMQ."""
    return _ask(pytestconfig)


def _ask(config: pytest.Config) -> Servers:
    owner = config.stash.get(_OWNER, None)
    if owner is not None:
        try:
            return owner.get()
        except ServerError as error:
            raise pytest.UsageError(f"no test servers: {error}") from error
    worker_input: dict[str, str] = config.workerinput  # type: ignore[attr-defined]
    with Client(worker_input[_ADDRESS], "AF_UNIX") as controller:
        answer = controller.recv()
    if isinstance(answer, str):
        pytest.exit(f"no test servers: {answer}", returncode=3)
    return Servers(*answer)
