"""Execution's HTTP door."""
