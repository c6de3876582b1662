"""What services are tested with: real databases, real callers at the real door, and suites every service must pass."""

from chassis.testing.client import Answer, Client
from chassis.testing.databases import Database, clone
from chassis.testing.examples import Call, Example, Examples
from chassis.testing.stage import Stage, staged

__all__ = ["Answer", "Call", "Client", "Database", "Example", "Examples", "Stage", "clone", "staged"]
