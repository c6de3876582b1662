"""Billing's HTTP door."""
