"""Identifiers: UUIDv7, made in Python, so that an id exists before its row does and sorts by time."""

from __future__ import annotations

import time
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh time-ordered id."""
    return uuid7()


def id_age_seconds(value: UUID) -> float:
    """How long ago a UUIDv7 was made, in seconds; infinite for any other kind of UUID."""
    if value.version != 7:
        return float("inf")
    return time.time() - (value.int >> 80) / 1000
