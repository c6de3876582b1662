"""Audit: every fact of every service becomes one entry, in order, exactly once, never changed."""
