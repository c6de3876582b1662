"""What audit is told from outside."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from audit.domain.leaves import RETENTION_CLASSES
from chassis.settings import ServiceSettings


def _one_of_the_classes(days: int) -> int:
    if days not in RETENTION_CLASSES:
        raise ValueError(f"one of {', '.join(map(str, RETENTION_CLASSES))}")
    return days


class Settings(ServiceSettings):
    """Audit's own settings."""

    ingest_database_url: SecretStr | None = None
    """The role that writes entries: it may insert and nothing else."""
    retention_class: Annotated[int, AfterValidator(_one_of_the_classes)] = 365
    """Days that entries are kept: 30, 90, 365 or 2555."""
