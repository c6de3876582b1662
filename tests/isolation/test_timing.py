"""How long a refusal takes does not tell whether there is something: the same look-up finds nothing either way."""

from __future__ import annotations

import random
import statistics
import time

import pytest
from tests.town import Town

from chassis.ids import new_id

REQUESTS = 200
MOST_APART_SECONDS = 0.002
TRIES = 3
PATHS = {
    "identity": ("/v1/workspaces/", "workspace_id"),
    "policy": ("/v1/policies/", "policy_id"),
    "execution": ("/v1/runs/", "run_id"),
    "audit": ("/v1/audit-entries/", "entry_id"),
    "gateway": ("/v1/gateways/", "gateway_id"),
}
"""One thing of each service that names things by id."""


async def _apart(town: Town, prefix: str, there: str) -> float:
    """Seconds between the medians of two hundred requests for a stranger's id and as many for no id, interleaved."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(REQUESTS):
        for is_there in random.sample((True, False), 2):
            path = prefix + (there if is_there else str(new_id()))
            began = time.perf_counter()
            reply = await town.ask("GET", path, town.south.key)
            taken[is_there].append(time.perf_counter() - began)
            assert reply.status == 404
    return abs(statistics.median(taken[True]) - statistics.median(taken[False]))


@pytest.mark.anyio
@pytest.mark.seconds(180)
@pytest.mark.parametrize("service", PATHS)
async def test_time_tells_a_stranger_nothing(town: Town, things: dict[str, str], service: str) -> None:
    prefix, name = PATHS[service]
    there = things[name]
    measured: list[float] = []
    for _ in range(TRIES):
        measured.append(await _apart(town, prefix, there))
        if measured[-1] < MOST_APART_SECONDS:
            break
    print(f"{service}: medians are {measured[-1] * 1000:.3f} ms apart")
    assert measured[-1] < MOST_APART_SECONDS, measured
