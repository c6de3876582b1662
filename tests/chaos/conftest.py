"""Options of `./dev chaos`: how many faults, and the seed that every choice follows from."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--faults", type=int, default=40, help="faults to do; fourteen kinds, each as often as the others")
    group.addoption("--seed", type=int, default=1, help="what every choice follows from")
    group.addoption("--runs", type=int, default=500, help="runs to start, half of them for each organization")


@pytest.fixture(scope="session")
def faults(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--faults"))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--runs"))
