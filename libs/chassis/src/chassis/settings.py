"""What a service is told: `REMIT_<NAME>`, overridden by `REMIT_<SERVICE>_<NAME>`; secrets also as `..._FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

MEBIBYTE = 1024 * 1024


def _comma_separated(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
"""A list that is written with commas."""


class SettingsError(Exception):
    """The environment lacks a setting or holds one that cannot be used; the message names each."""


class ServiceSettings(BaseModel):
    """What every service is told. A service adds its own fields in its `settings.py`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str
    database_url: SecretStr
    owner_database_url: SecretStr | None = None
    """Migrations and partitions; only the `migrate` job and partition upkeep use it."""
    batch_database_url: SecretStr | None = None
    relay_database_url: SecretStr | None = None
    sweep_database_url: SecretStr | None = None
    amqp_url: SecretStr
    stream_url: SecretStr

    key_file: Path | None = None
    """This service's Ed25519 private key (PEM, mode 0600): signs attestations and grants."""
    trust_file: Path | None = None
    """`{kid: {service, use, public_key}}` of all services."""

    host: str = "127.0.0.1"
    port: int = 0
    pool_size: int = 5
    statement_timeout_seconds: float = 5
    lock_timeout_seconds: float = 3
    request_timeout_seconds: float = 30
    request_limit_bytes: int = MEBIBYTE
    log_format: str = "json"
    """json or console."""
    log_level: str = "info"
    trace_sample_ratio: float = 1.0
    otlp_endpoint: str | None = None
    """An OTLP/HTTP receiver's address; None exports no traces."""

    @classmethod
    def load(cls, service: str, environment: Mapping[str, str]) -> Self:
        """Read the settings of `service`; SettingsError names what is missing or wrong, never a secret's value."""
        values: dict[str, Any] = {"service": service}
        for name in cls.model_fields:
            found = _find(environment, service, name)
            if name != "service" and found is not None:
                values[name] = found
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [_explain(service, tuple(problem["loc"]), problem["msg"]) for problem in error.errors()]
            raise SettingsError("\n".join(lines)) from None


def _find(environment: Mapping[str, str], service: str, name: str) -> str | None:
    for key in (f"REMIT_{service.upper()}_{name.upper()}", f"REMIT_{name.upper()}"):
        if key in environment:
            return environment[key]
        if f"{key}_FILE" in environment and not name.endswith("_file"):
            return Path(environment[f"{key}_FILE"]).read_text().strip()
    return None


def _explain(service: str, location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]).upper()
    return f"{service}: setting REMIT_{service.upper()}_{name} (or REMIT_{name}): {message}"
