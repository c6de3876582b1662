"""What gateway is told from outside, beyond what every service is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from chassis.settings import Names, ServiceSettings


def _hops(value: object) -> object:
    """`identity=http://127.0.0.1:7001,billing=...` as a mapping."""
    if not isinstance(value, str):
        return value
    pairs = (part.strip().partition("=") for part in value.split(",") if part.strip())
    return {service.strip(): url.strip().rstrip("/") for service, _, url in pairs}


class Settings(ServiceSettings):
    """Gateway's settings."""

    edge_host: str = "127.0.0.1"
    edge_port: int = 8080
    """The public port; 0 opens none."""
    public_url: str = ""
    """Where callers find the edge, such as a proxy's address; empty: the edge's own host and port."""
    token_key_file: Path | None = None
    """The one key that signs internal tokens (PEM, mode 0600). Without it a key is made that nobody else trusts."""
    next_hops: Annotated[dict[str, str], BeforeValidator(_hops)] = {}
    """`service=url` of each service in a process of its own; empty where all of them share this process."""
    cors_origins: Names = ()
    """Origins whose pages may call the edge from a browser; `*` means any."""
    key_rate_per_second: int = Field(50, ge=1)
    """Requests a second of one key, in each process of the edge; twice as many at once."""
    organization_rate_per_second: int = Field(1_000, ge=1)
    """Requests a second of an organization without a gateway of its own yet, in each process of the edge."""
    max_identity_staleness_seconds: float = 300
    """Without a word from identity for so long the edge refuses everybody: it may have missed a revocation."""
