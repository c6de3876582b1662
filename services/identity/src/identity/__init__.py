"""Identity: organizations, their users, workspaces and API keys."""
