"""What billing is told from outside."""

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Billing needs nothing beyond what every service does."""
