"""kill -9 of the worker in the middle of a step, another worker alive: how long until the step is tried again."""

from __future__ import annotations


async def measure_takeover(*, scale: float) -> None:
    """To come."""
    del scale
