from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ConflictError
from execution.domain.runs import (
    FINAL,
    TRANSITIONS,
    Limits,
    RunStatus,
    StopReason,
    Usage,
    cap_exceeded,
    may_become,
    require_transition,
    status_of_stop,
)

numbers = st.integers(0, 50)
limits = st.builds(Limits, *([st.none() | st.integers(1, 50)] * 4), st.none() | st.floats(1, 50))
usages = st.builds(Usage, numbers, numbers, numbers, st.floats(0, 60), st.integers(0, 5))


def test_the_documented_life_of_a_run() -> None:
    life = [
        RunStatus.SCHEDULED,
        RunStatus.QUEUED,
        RunStatus.RUNNING,
        RunStatus.WAITING,
        RunStatus.RUNNING,
        RunStatus.COMPLETED,
    ]
    for present, wanted in itertools.pairwise(life):
        require_transition(present, wanted)


def test_nothing_follows_an_end_and_every_run_can_end() -> None:
    assert set(TRANSITIONS) == set(RunStatus)
    for present in RunStatus:
        followers = {wanted for wanted in RunStatus if may_become(present, wanted)}
        assert present not in followers
        assert followers == set() if present in FINAL else RunStatus.CANCELLED in followers


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        (RunStatus.COMPLETED, RunStatus.RUNNING),
        (RunStatus.CANCELLING, RunStatus.COMPLETED),
        (RunStatus.QUEUED, RunStatus.COMPLETED),
    ],
)
def test_a_transition_that_is_none_is_a_conflict(present: RunStatus, wanted: RunStatus) -> None:
    with pytest.raises(ConflictError) as caught:
        require_transition(present, wanted)
    assert caught.value.code == "invalid_transition"


@pytest.mark.parametrize(
    ("limit", "spent", "estimate", "reason"),
    [
        (Limits(max_cost_usd_micros=100), Usage(cost_usd_micros=60), Usage(cost_usd_micros=40), None),
        (Limits(max_cost_usd_micros=100), Usage(cost_usd_micros=60), Usage(cost_usd_micros=41), StopReason.MAX_COST),
        (Limits(max_tokens=10), Usage(tokens=10), Usage(tokens=1), StopReason.MAX_TOKENS),
        (Limits(max_steps=3), Usage(steps=2), Usage(steps=1), None),
        (Limits(max_steps=3), Usage(steps=3), Usage(steps=1), StopReason.MAX_STEPS),
        (Limits(max_depth=3), Usage(depth=3), Usage(depth=4), StopReason.MAX_DEPTH),
        (Limits(timeout_seconds=5), Usage(elapsed_seconds=4.9), Usage(elapsed_seconds=60), None),
        (Limits(timeout_seconds=5), Usage(elapsed_seconds=5), Usage(), StopReason.TIMEOUT),
        (Limits(), Usage(10**12, 10**12, 10**12, 1e12, 99), Usage(1, 1, 1), None),
    ],
)
def test_a_cap_stops_before_the_call_that_would_exceed_it(
    limit: Limits, spent: Usage, estimate: Usage, reason: StopReason | None
) -> None:
    assert cap_exceeded(limit, spent, estimate) is reason


@given(limits, st.lists(usages, max_size=20))
def test_calls_made_only_under_the_caps_never_pass_them(limit: Limits, calls: list[Usage]) -> None:
    spent = Usage()
    for call in calls:
        if cap_exceeded(limit, spent, call) is None:
            spent = dataclasses.replace(
                spent,
                cost_usd_micros=spent.cost_usd_micros + call.cost_usd_micros,
                tokens=spent.tokens + call.tokens,
                steps=spent.steps + call.steps,
            )
    assert spent.cost_usd_micros <= (limit.max_cost_usd_micros or 10**9)
    assert spent.tokens <= (limit.max_tokens or 10**9)
    assert spent.steps <= (limit.max_steps or 10**9)


@given(limits, limits, usages, usages)
def test_tightened_limits_stop_whenever_one_of_them_does(
    one: Limits, other: Limits, spent: Usage, estimate: Usage
) -> None:
    both = one.tightened(other)
    assert both == other.tightened(one)
    either = [cap_exceeded(limit, spent, estimate) for limit in (one, other)]
    assert (cap_exceeded(both, spent, estimate) is not None) == any(either)


def test_how_stopped_runs_end() -> None:
    assert status_of_stop(StopReason.TIMEOUT) is RunStatus.TIMED_OUT
    assert status_of_stop(StopReason.KILLED) is RunStatus.CANCELLED
    assert status_of_stop(StopReason.MAX_COST) is RunStatus.FAILED
