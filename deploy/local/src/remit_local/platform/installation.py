"""One Remit on one machine: a data folder, private servers, loopback only."""

import secrets
import sys
from pathlib import Path

from contracts.catalog import SERVICES
from remit_local.embedded_model import EmbeddedModel
from remit_local.loopback import kept_port
from remit_local.platform.deployment import Deployment
from remit_local.postgres import Postgres
from remit_local.private_files import kept_secret
from remit_local.rabbitmq import RabbitMQ

MODEL = "model"
MAX_CONNECTIONS = 300
"""PostgreSQL's, stated: six services with two processes each, a pool of at most 8 and at most 8 single connections."""


class Installation(Deployment):
    """Everything that one data folder of Remit is made of."""

    def __init__(
        self,
        folder: Path,
        edge_port: int = 8080,
        *,
        trace_receiver: str | None = None,
        log_format: str = "console",
    ) -> None:
        place = folder.resolve()
        self.postgres = Postgres(place / "postgres", max_connections=MAX_CONNECTIONS)
        self.rabbitmq = RabbitMQ(place / "rabbitmq")
        super().__init__(place, self.postgres, self.rabbitmq)
        self.rabbitmq.definitions = self.broker_users()
        self.edge_port = edge_port
        self.turn = secrets.token_hex()
        """Names this start of the platform."""
        self._log_format = log_format
        self._trace_receiver = trace_receiver

    @property
    def demo_file(self) -> Path:
        """Where the CLI finds an edge and keys to begin with."""
        return self.folder / "demo.json"

    @property
    def edge(self) -> str:
        """The one public address."""
        return f"http://127.0.0.1:{self.edge_port}"

    def model(self) -> EmbeddedModel:
        """The embedded model's server."""
        key_file = self.folder / "model.key"
        kept_secret(key_file)
        return EmbeddedModel(self._port(MODEL), key_file)

    def settle_ports(self) -> None:
        """Choose the ports that children are told of: those of last time, where nobody else has taken them.

        Only before any child runs: later a port is taken because it is ours.
        """
        (self.folder / "ports").mkdir(exist_ok=True)
        for name in (MODEL, *SERVICES):
            kept_port(self.folder / "ports" / name)
        self.postgres.settle_ports()
        self.rabbitmq.settle_ports()

    def service_port(self, service: str) -> int:
        """A service's internal port; used with one process per service and role only."""
        return self._port(service)

    def hop(self, service: str) -> str:
        """Where the edge reaches a service that runs alone."""
        return f"http://127.0.0.1:{self.service_port(service)}"

    def surroundings(self, service: str, *, alone: bool) -> dict[str, str]:
        """What one service is told of ports and logs."""
        return {
            "LOG_FORMAT": self._log_format,
            **({"PORT": str(self.service_port(service))} if alone else {}),
            **({"EDGE_PORT": str(self.edge_port)} if service == "gateway" else {}),
            **({"OTLP_ENDPOINT": self._trace_receiver} if self._trace_receiver else {}),
        }

    def environment(self, service: str, *, own_port: bool) -> dict[str, str]:
        """What one service is told, as environment variables of its own."""
        told = self.settings(service, alone=own_port)
        return {f"REMIT_{service.upper()}_{name}": value for name, value in told.items()}

    def whole_environment(self, *, own_ports: bool) -> dict[str, str]:
        """What all services together are told."""
        whole: dict[str, str] = {}
        for service in SERVICES:
            whole |= self.environment(service, own_port=own_ports)
        return whole

    def model_environment(self) -> dict[str, str]:
        """What execution is told of the embedded model where it runs; elsewhere an operator may name a stand-in."""
        model = self.model()
        return {
            "REMIT_EXECUTION_EMBEDDED_MODEL_URL": model.base_url,
            "REMIT_EXECUTION_EMBEDDED_MODEL_KEY_FILE": str(model.key_file),
        }

    def python(self, module: str, *arguments: str) -> tuple[str, ...]:
        """A command that runs one of our modules."""
        return (sys.executable, "-m", module, *arguments)

    def _port(self, name: str) -> int:
        return int((self.folder / "ports" / name).read_text())
