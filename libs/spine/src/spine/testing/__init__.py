"""What services are tested with: real databases, real callers at the real door, and suites every service must pass."""

from spine.testing.client import Answer, Client
from spine.testing.databases import Database, clone
from spine.testing.examples import Call, Example, Examples
from spine.testing.stage import Stage, staged

__all__ = ["Answer", "Call", "Client", "Database", "Example", "Examples", "Stage", "clone", "staged"]
