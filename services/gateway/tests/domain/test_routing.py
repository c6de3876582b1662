from __future__ import annotations

import pytest

from gateway.domain.routing import RUN_LIMIT_BYTES, explained_run, limit_of, service_of


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v2/runs", "v1/runs", "//v1/runs", "/v1/runsx", "/v1//runs", "/V1/runs"]
)
def test_paths_of_nobody(path: str) -> None:
    assert service_of(path) is None


def test_the_longer_prefix_wins() -> None:
    assert service_of("/v1/platform/subscriptions/1") == "billing"
    assert service_of("/v1/platform/organizations") == "identity"
    assert service_of("/v1/platform") == "identity"


def test_runs_may_bring_more() -> None:
    assert limit_of("/v1/runs") == RUN_LIMIT_BYTES > limit_of("/v1/agents")


def test_only_the_explanation_is_composed() -> None:
    assert explained_run("/v1/runs/7/explain") == "7"
    assert explained_run("/v1/runs/7/explain/x") is None
    assert explained_run("/v1/runs/7/steps") is None
