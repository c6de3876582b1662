"""What identity is told from outside."""

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Identity needs nothing beyond what every service does."""
