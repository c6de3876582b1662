"""What policy is told from outside."""

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Policy needs nothing beyond what every service does."""
