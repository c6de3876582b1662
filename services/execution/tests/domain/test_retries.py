from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from execution.domain.retries import FINAL_CODES, Backoff, RetryPolicy, is_retryable, retry_delay, should_retry

policies = st.builds(
    RetryPolicy,
    st.integers(1, 20),
    st.sampled_from(Backoff),
    st.floats(0.001, 3600),
    st.floats(0.001, 86_400),
    st.booleans(),
    st.frozensets(st.sampled_from(["timeout", "unavailable"])),
)


def test_exponential_backoff_with_full_jitter() -> None:
    policy = RetryPolicy(first_delay_seconds=1, max_delay_seconds=60)
    assert [retry_delay(policy, attempt, 0.5) for attempt in (1, 2, 3, 7, 8)] == [0.5, 1, 2, 30, 30]
    assert retry_delay(policy, 5, 0.0) == 0


def test_constant_backoff_without_jitter() -> None:
    policy = RetryPolicy(backoff=Backoff.CONSTANT, first_delay_seconds=2, full_jitter=False)
    assert {retry_delay(policy, attempt, 0.3) for attempt in range(1, 20)} == {2}


@given(policies, st.integers(-5, 10**9), st.floats(0, 1, exclude_max=True))
def test_every_delay_is_bounded(policy: RetryPolicy, attempt: int, fraction: float) -> None:
    assert 0 <= retry_delay(policy, attempt, fraction) <= policy.max_delay_seconds


@given(policies, st.integers(1, 100), st.sampled_from(["timeout", "unavailable", "policy_denied", "odd"]))
def test_attempts_are_bounded_and_final_codes_final(policy: RetryPolicy, attempt: int, code: str) -> None:
    again = should_retry(policy, attempt, code)
    assert again == (attempt < policy.max_attempts and is_retryable(policy, code))
    if code in FINAL_CODES | policy.not_on:
        assert not again


@given(policies)
def test_a_policy_survives_storage(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_json(policy.to_json()) == policy
