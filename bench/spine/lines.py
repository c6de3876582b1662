"""One measured number, as a line of JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any


def show(name: str, rounds: Sequence[float], unit: str, **more: Any) -> float:
    """Print the median of these rounds with all of them beside it; gives the median."""
    median = statistics.median(rounds)
    line = {"name": name, "value": round(median, 3), "unit": unit, **more}
    if len(rounds) > 1:
        line["rounds"] = [round(each, 3) for each in rounds]
    print(json.dumps(line), flush=True)
    return median
