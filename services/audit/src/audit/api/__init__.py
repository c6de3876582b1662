"""Audit's HTTP door."""
