"""Tests that share something of which a machine has one run in one worker: that is what `xdist_group` is for."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.xdist_group("groups")


def test_a_group_is_kept_together(request: pytest.FixtureRequest, worker_id: str) -> None:
    """The scheduler goes by the suffix; a pytest that hides it scatters every group over all workers."""
    if worker_id == "master":
        pytest.skip("only one process")
    assert request.node.nodeid.endswith("@groups")
