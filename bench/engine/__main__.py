"""The execution engine through the real service, beside DBOS and Temporal's dev server. Prints JSON lines.

    ./dev bench engine [-- throughput start idle lists flood takeover] [--quick] [--rounds 5]

Tenant checks, the policy decision, facts into audit and billing are all part of what is measured; runs are started by
the public bulk route. The peers get an environment of their own under `.remit/`. A number is the median of its rounds,
which take all sides in turns; a ratio is made within a round. `--quick` shows that everything works, and says nothing
about speed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

import uvloop  # noqa: E402
from bench.engine.flood_part import measure_flood  # noqa: E402
from bench.engine.house import make_house  # noqa: E402
from bench.engine.lists_part import measure_lists  # noqa: E402
from bench.engine.start_part import measure_idle, measure_start  # noqa: E402
from bench.engine.takeover_part import measure_takeover  # noqa: E402
from bench.engine.throughput_part import measure_throughput  # noqa: E402

PARTS = ("throughput", "start", "idle", "lists", "flood", "takeover")
TENANTS = 4


async def measure(parts: list[str], *, rounds: int, scale: float) -> None:
    """One platform for what needs the same, another for what fills it."""
    if {"throughput", "start", "idle"} & set(parts):
        async with make_house(tenants=TENANTS) as house:
            if "start" in parts:
                await measure_start(house, rounds=rounds, scale=scale)
            if "throughput" in parts:
                await measure_throughput(house, rounds=rounds, scale=scale)
            if "idle" in parts:
                await measure_idle(house, scale=scale)
    if {"lists", "flood"} & set(parts):
        async with make_house(tenants=2) as house:
            if "flood" in parts:
                await measure_flood(house, rounds=rounds, scale=scale)
            if "lists" in parts:
                await measure_lists(house, scale=scale)
    if "takeover" in parts:
        await measure_takeover(scale=scale)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench engine --", description="The engine through the real service.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; without: all")
    parser.add_argument("--quick", action="store_true", help="one small round of each")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    rounds, scale = (1, 0.02) if chosen.quick else (chosen.rounds, 1.0)
    uvloop.run(measure(chosen.parts or list(PARTS), rounds=rounds, scale=scale))


if __name__ == "__main__":
    main()
