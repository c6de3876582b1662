"""What audit is told from outside."""

from pydantic import SecretStr

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Audit's own settings."""

    ingest_database_url: SecretStr | None = None
    """The role that writes entries: it may insert and nothing else."""
    retention_class: int = 365
    """Days that entries are kept: 30, 90, 365 or 2555."""
