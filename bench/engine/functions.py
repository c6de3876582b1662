"""What the benchmark's agents do, inside the worker: as small as the peers' steps, and the time of the call."""

from __future__ import annotations

import time
from typing import Any

PAD = "x" * 200


async def step(given: Any, step: Any) -> dict[str, Any]:
    """A small JSON in, a small JSON out; `at` is Unix time."""
    return {"step": step.node, "of": given.get("of"), "at": time.time(), "pad": PAD}
