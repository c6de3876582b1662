"""Remit in containers: what docker-compose.yml runs before the services, each step once and safe to repeat.

`python -m remit_local.platform.containers hand-out`: makes every secret and hands each container its own, in a volume
that nobody else mounts. `... prepare`: databases, queues and the operator's key. `... operator-key`: shows that key.
"""

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from chassis.auth import write_keys
from chassis.sealing import write_keyring
from contracts.catalog import SERVICES
from remit_local.definitions import ADMIN, whole_definitions
from remit_local.platform.deployment import KEY_USES, Deployment
from remit_local.platform.prepare import prepare
from remit_local.private_files import kept_secret, write_private

STATE = Path("/var/lib/remit")
HANDED_OUT = Path("/run/remit")
"""In each service's container; where secrets are handed out it holds a folder for each container."""
SERVICE_PORT, EDGE_PORT, MODEL_PORT = 7000, 8080, 7001
OBJECTS = STATE / "objects"
MODEL_KEY = "EMBEDDED_MODEL_KEY_FILE"
_SUPERUSER = "postgres"
_READABLE = 0o644
"""The server's own user, another one than ours, has to read it; only its container mounts the volume."""


class Elsewhere:
    """A server in a container of its own."""

    def __init__(self, name: str, port: int, password_file: Path) -> None:
        self.name = name
        self._port = port
        self.password = kept_secret(password_file)

    def is_ready(self) -> bool:
        """Tell whether it accepts connections."""
        try:
            socket.create_connection((self.name, self._port), timeout=1).close()
        except OSError:
            return False
        return True


class PostgresElsewhere(Elsewhere):
    """PostgreSQL in a container of its own."""

    @property
    def superuser_url(self) -> str:
        """The URL of the superuser on the database `postgres`."""
        return self.url("postgres", _SUPERUSER, self.password)

    def url(self, database: str, user: str, password: str) -> str:
        """Return the URL of a database for a user."""
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{self.name}:{self._port}/{database}"


class RabbitMQElsewhere(Elsewhere):
    """RabbitMQ in a container of its own."""

    stream_port = 5552

    @property
    def amqp_url(self) -> str:
        """The AMQP URL of the administrator."""
        return self.url(ADMIN, self.password)

    def url(self, user: str, password: str, scheme: str = "amqp") -> str:
        """Return the URL for a user; `scheme` is `amqp` or `rabbitmq-stream`."""
        port = self.stream_port if scheme == "rabbitmq-stream" else self._port
        return f"{scheme}://{quote(user)}:{quote(password, safe='')}@{self.name}:{port}/"


class Containers(Deployment):
    """The same Remit as on one machine, a container for each service."""

    def __init__(self, folder: Path = STATE) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._broker = RabbitMQElsewhere("rabbitmq", 5672, folder / "rabbitmq.password")
        super().__init__(folder, PostgresElsewhere("postgres", 5432, folder / "postgres.password"), self._broker)

    def hop(self, service: str) -> str:
        """Where the edge reaches a service."""
        return f"http://{service}:{SERVICE_PORT}"

    def surroundings(self, service: str, *, alone: bool) -> dict[str, str]:
        """What one service is told of ports and logs."""
        del alone
        edge = {"EDGE_HOST": "0.0.0.0", "EDGE_PORT": str(EDGE_PORT)} if service == "gateway" else {}  # noqa: S104
        model = {"EMBEDDED_MODEL_URL": f"http://model:{MODEL_PORT}/v1", MODEL_KEY: str(self.folder / "model.key")}
        objects = {"OBJECT_DIRECTORY": str(OBJECTS), **model} if service == "execution" else {}
        return {"LOG_FORMAT": "json", "HOST": "0.0.0.0", "PORT": str(SERVICE_PORT), **edge, **objects}  # noqa: S104

    def container_environment(self, service: str) -> dict[str, str]:
        """What docker-compose.yml says to a service's container: settings, and where its secrets are."""
        return {f"REMIT_{name}": value for name, value in _plain(self.settings(service, alone=True)).items()}

    def hand_out(self, into: Path = HANDED_OUT) -> None:
        """Make all secrets and give each container its own."""
        write_keys(self.keys, KEY_USES)
        write_keyring(self.keys / "execution.keyring")
        kept_secret(self.folder / "model.key")
        for name in (*SERVICES, "rabbitmq", "postgres", "model"):
            (into / name).mkdir(parents=True, exist_ok=True)
        for service in SERVICES:
            _write_secrets(into / service, self.settings(service, alone=True))
        users = whole_definitions(self._broker.password, self.broker_users())
        write_private(into / "rabbitmq" / "definitions.json", json.dumps(users), _READABLE)
        write_private(into / "postgres" / "password", kept_secret(self.folder / "postgres.password"), _READABLE)
        write_private(into / "model" / "key", kept_secret(self.folder / "model.key"))


def is_secret(name: str) -> bool:
    """Whether a setting reaches its container as a file."""
    return name.endswith(("_DATABASE_URL", "_FILE")) or name in ("DATABASE_URL", "AMQP_URL", "STREAM_URL")


def _plain(settings: Mapping[str, str]) -> dict[str, str]:
    return dict(_as_file(name) if is_secret(name) else (name, value) for name, value in settings.items())


def _as_file(name: str) -> tuple[str, str]:
    stem = name.removesuffix("_FILE")
    return f"{stem}_FILE", str(HANDED_OUT / stem.lower())


def _write_secrets(folder: Path, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        if name.endswith("_FILE"):
            shutil.copyfile(value, folder / name.removesuffix("_FILE").lower())
            (folder / name.removesuffix("_FILE").lower()).chmod(0o600)
        elif is_secret(name):
            write_private(folder / name.lower(), value)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["hand-out"]:
            Containers().hand_out()
        case ["prepare"]:
            asyncio.run(prepare(Containers()))
        case ["operator-key"]:
            sys.stdout.write(Containers().operator_file.read_text() + "\n")
        case _:
            sys.exit("usage: python -m remit_local.platform.containers hand-out|prepare|operator-key")
