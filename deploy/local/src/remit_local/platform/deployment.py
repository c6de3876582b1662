"""One Remit, wherever it runs: which secrets guard it, and what each of its services is told."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from chassis.migration import role, roles
from contracts.catalog import SERVICES
from remit_local.definitions import Definitions, joined, service_user
from remit_local.private_files import kept_secret

KEY_USES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(SERVICES, ("attest",)),
    "gateway": ("attest", "token"),
    "audit": ("attest", "seal"),
}
INGEST = "remit_audit_ingest"


class Answering(Protocol):
    """A server that may not be up yet."""

    name: str

    def is_ready(self) -> bool:
        """Tell whether it answers its clients now."""
        ...


class Database(Answering, Protocol):
    """Where PostgreSQL is."""

    @property
    def superuser_url(self) -> str:
        """The URL of the superuser on the database `postgres`."""
        ...

    def url(self, database: str, user: str, password: str) -> str:
        """Return the URL of a database for a user."""
        ...


class Broker(Answering, Protocol):
    """Where RabbitMQ is."""

    @property
    def amqp_url(self) -> str:
        """The AMQP URL of the administrator."""
        ...

    def url(self, user: str, password: str, scheme: str = "amqp") -> str:
        """Return the URL for a user; `scheme` is `amqp` or `rabbitmq-stream`."""
        ...


class Deployment(ABC):
    """Secrets, addresses and rights of all services; how they are reached is for whoever runs them to say."""

    def __init__(self, folder: Path, database: Database, broker: Broker) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.database = database
        self.broker = broker

    @property
    def keys(self) -> Path:
        """Where the private keys and the trust file are."""
        return self.folder / "keys"

    @property
    def operator_file(self) -> Path:
        """The platform organization's id and key, made by bootstrap."""
        return self.folder / "operator.json"

    def password(self, name: str) -> str:
        """The password of a database role or broker user; made the first time."""
        (self.folder / "passwords").mkdir(mode=0o700, exist_ok=True)
        return kept_secret(self.folder / "passwords" / name)

    def database_url(self, service: str, suffix: str = "") -> str:
        """The URL of a service's database for one of its roles."""
        name = role(service, suffix)
        return self.database.url(role(service), name, self.password(name))

    def database_roles(self, service: str) -> dict[str, str]:
        """All roles of a service and their passwords."""
        extra = (INGEST,) if service == "audit" else ()
        return {name: self.password(name) for name in (*roles(service), *extra)}

    def settings(self, service: str, *, alone: bool) -> dict[str, str]:
        """What one service is told, by its settings' names; `alone` means in a process of its own."""
        user, password = role(service), self.password(f"broker_{service}")
        return {
            "DATABASE_URL": self.database_url(service),
            "OWNER_DATABASE_URL": self.database_url(service, "owner"),
            "BATCH_DATABASE_URL": self.database_url(service, "batch"),
            "RELAY_DATABASE_URL": self.database_url(service, "relay"),
            "SWEEP_DATABASE_URL": self.database_url(service, "sweep"),
            "AMQP_URL": self.broker.url(user, password),
            "STREAM_URL": self.broker.url(user, password, scheme="rabbitmq-stream"),
            "KEY_FILE": str(self.keys / f"{service}.attest.pem"),
            "TRUST_FILE": str(self.keys / "trust.json"),
            **self._only(service, alone=alone),
            **self.surroundings(service, alone=alone),
        }

    @abstractmethod
    def surroundings(self, service: str, *, alone: bool) -> dict[str, str]:
        """What one service is told of ports and logs."""

    @abstractmethod
    def hop(self, service: str) -> str:
        """Where the edge reaches a service that runs alone."""

    def broker_users(self) -> Definitions:
        """One user per service, with the rights it needs."""
        return joined(*(self._broker_user(service) for service in SERVICES))

    def _only(self, service: str, *, alone: bool) -> dict[str, str]:
        if service == "audit":
            return {"INGEST_DATABASE_URL": self.database.url(role(service), INGEST, self.password(INGEST))}
        if service == "execution":
            return {
                "OBJECT_DIRECTORY": str(self.folder / "objects"),
                "KEY_ENCRYPTION_FILE": str(self.keys / "execution.keyring"),
            }
        if service == "gateway":
            hops = {"NEXT_HOPS": ",".join(f"{each}={self.hop(each)}" for each in SERVICES)} if alone else {}
            return {"TOKEN_KEY_FILE": str(self.keys / "gateway.token.pem"), **hops}
        return {}

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
