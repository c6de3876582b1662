"""Audit's bus door beside the one writer."""
