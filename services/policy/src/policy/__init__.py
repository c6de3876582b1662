"""Policy: the rules of an organization, the bundle every service decides with, and the decisions taken."""
