"""One data folder: where everything is, which secrets guard it, and what each service is told."""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.migration import role, roles
from contracts.catalog import SERVICES
from remit_local.definitions import Definitions, joined, service_user
from remit_local.embedded_model import EmbeddedModel
from remit_local.loopback import kept_port
from remit_local.postgres import Postgres
from remit_local.private_files import kept_secret
from remit_local.rabbitmq import RabbitMQ

KEY_USES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(SERVICES, ("attest",)),
    "gateway": ("attest", "token"),
    "audit": ("attest", "seal"),
}
INGEST = "remit_audit_ingest"
MODEL = "model"
MAX_CONNECTIONS = 300
"""PostgreSQL's, stated: six services with two processes each, a pool of at most 8 and at most 8 single connections."""


@dataclass
class Installation:
    """Everything that one data folder of Remit is made of."""

    folder: Path
    edge_port: int = 8080
    trace_receiver: str | None = None
    log_format: str = "console"
    turn: str = field(default_factory=secrets.token_hex)
    """Names this start of the platform."""
    postgres: Postgres = field(init=False)
    rabbitmq: RabbitMQ = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.postgres = Postgres(self.folder / "postgres", max_connections=MAX_CONNECTIONS)
        self.rabbitmq = RabbitMQ(self.folder / "rabbitmq", definitions=self._broker_users())

    @property
    def keys(self) -> Path:
        """Where the private keys and the trust file are."""
        return self.folder / "keys"

    @property
    def demo_file(self) -> Path:
        """Where the CLI finds an edge and keys to begin with."""
        return self.folder / "demo.json"

    @property
    def operator_file(self) -> Path:
        """The platform organization's id and key, made by bootstrap."""
        return self.folder / "operator.json"

    @property
    def edge(self) -> str:
        """The one public address."""
        return f"http://127.0.0.1:{self.edge_port}"

    def password(self, name: str) -> str:
        """The password of a database role or broker user; made the first time."""
        (self.folder / "passwords").mkdir(mode=0o700, exist_ok=True)
        return kept_secret(self.folder / "passwords" / name)

    def model(self) -> EmbeddedModel:
        """The embedded model's server."""
        key_file = self.folder / "model.key"
        kept_secret(key_file)
        return EmbeddedModel(self._port(MODEL), key_file)

    def service_port(self, service: str) -> int:
        """A service's internal port; used with one process per service and role only."""
        return self._port(service)

    def settle_ports(self) -> None:
        """Choose the ports that children are told of: those of last time, where nobody else has taken them.

        Only before any child runs: later a port is taken because it is ours.
        """
        (self.folder / "ports").mkdir(exist_ok=True)
        for name in (MODEL, *SERVICES):
            kept_port(self.folder / "ports" / name)
        self.postgres.settle_ports()
        self.rabbitmq.settle_ports()

    def database_url(self, service: str, suffix: str = "") -> str:
        """The URL of a service's database for one of its roles."""
        name = role(service, suffix)
        return self.postgres.url(role(service), name, self.password(name))

    def database_roles(self, service: str) -> dict[str, str]:
        """All roles of a service and their passwords."""
        extra = (INGEST,) if service == "audit" else ()
        return {name: self.password(name) for name in (*roles(service), *extra)}

    def environment(self, service: str, *, own_port: bool) -> dict[str, str]:
        """What one service is told. The servers must have been prepared: their ports are settled then."""
        user, password = role(service), self.password(f"broker_{service}")
        told = {
            "DATABASE_URL": self.database_url(service),
            "OWNER_DATABASE_URL": self.database_url(service, "owner"),
            "BATCH_DATABASE_URL": self.database_url(service, "batch"),
            "RELAY_DATABASE_URL": self.database_url(service, "relay"),
            "SWEEP_DATABASE_URL": self.database_url(service, "sweep"),
            "AMQP_URL": self.rabbitmq.url(user, password),
            "STREAM_URL": self.rabbitmq.url(user, password, scheme="rabbitmq-stream"),
            "KEY_FILE": str(self.keys / f"{service}.attest.pem"),
            "TRUST_FILE": str(self.keys / "trust.json"),
            "LOG_FORMAT": self.log_format,
            **self._only(service, own_port=own_port),
        }
        if own_port:
            told["PORT"] = str(self.service_port(service))
        if self.trace_receiver:
            told["OTLP_ENDPOINT"] = self.trace_receiver
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

    def _only(self, service: str, *, own_port: bool) -> dict[str, str]:
        if service == "audit":
            return {"INGEST_DATABASE_URL": self.postgres.url(role(service), INGEST, self.password(INGEST))}
        if service == "execution":
            return {
                "OBJECT_DIRECTORY": str(self.folder / "objects"),
                "KEY_ENCRYPTION_FILE": str(self.keys / "execution.keyring"),
            }
        if service == "gateway":
            hops = (
                ",".join(f"{each}=http://127.0.0.1:{self.service_port(each)}" for each in SERVICES) if own_port else ""
            )
            return {
                "TOKEN_KEY_FILE": str(self.keys / "gateway.token.pem"),
                "EDGE_PORT": str(self.edge_port),
                **({"NEXT_HOPS": hops} if hops else {}),
            }
        return {}

    def _broker_users(self) -> Definitions:
        return joined(*(self._broker_user(service) for service in SERVICES))

    def _broker_user(self, service: str) -> Definitions:
        """Rights of one service: its own stream, queues and replies; the commands it may send; every stream to read."""
        engine = r"|engine\.runs" if service == "execution" else ""
        own = rf"facts\.{service}|replies\.{service}\..*{engine}"
        return service_user(
            role(service),
            self.password(f"broker_{service}"),
            configure=rf"^({own})$",
            write=rf"^({own}|work\..*|retry\.{service}.*|dead\.{service}|replies|live)$",
            read=rf"^({own}|facts\..*|work\.{service}.*|retry\.{service}.*|dead\.{service}|replies|live)$",
        )
