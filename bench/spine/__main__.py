"""The numbers of the spine: facts, runs, the edge beside a bare service, traces, start and memory. Prints JSON lines.

    ./dev bench spine [-- facts runs edge start] [--quick]

Each part brings its own private servers. A number is the median of its rounds, which take both sides in turns; a
ratio is made within a round. `--quick` shows that everything works, and says nothing about speed. It is a folder
because a file of this name would hide the package `spine` from the other benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

import uvloop  # noqa: E402
from bench.facts import find_servers  # noqa: E402
from bench.spine.edge_part import measure_edge  # noqa: E402
from bench.spine.facts_part import measure_facts  # noqa: E402
from bench.spine.runs_part import measure_runs  # noqa: E402
from bench.spine.start_part import measure_start  # noqa: E402

PARTS = ("facts", "runs", "edge", "start")


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench spine --", description="The numbers of the spine.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; without: all")
    parser.add_argument("--quick", action="store_true", help="one small round of each")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    quick, parts = chosen.quick, chosen.parts or PARTS
    rounds = 1 if quick else 3
    if "facts" in parts:
        with find_servers() as servers:
            facts, timed = (500, 50) if quick else (20_000, 500)
            uvloop.run(measure_facts(servers, rounds=rounds, facts=facts, timed=timed))
    if "runs" in parts:
        with find_servers() as servers:
            uvloop.run(measure_runs(servers, rounds=rounds, runs=50 if quick else 3_000))
    if "edge" in parts:
        uvloop.run(measure_edge(rounds=rounds, requests=50 if quick else 2_000))
    if "start" in parts:
        uvloop.run(measure_start(rounds=rounds))


if __name__ == "__main__":
    main()
