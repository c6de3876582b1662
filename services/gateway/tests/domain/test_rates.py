from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.rates import Bucket


def test_a_full_bucket_holds_two_seconds_and_refills() -> None:
    bucket = Bucket.full(10, now=100.0)
    assert [bucket.take(10, 100.0) for _ in range(20)] == [0] * 20
    assert bucket.take(10, 100.0) == 0.1
    assert bucket.take(10, 100.15) == 0
    assert bucket.take(10, 100.15) > 0


@given(st.integers(1, 100), st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_never_more_than_burst_and_rate_allow(rate: int, pauses: list[float]) -> None:
    bucket, now, taken = Bucket.full(rate, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(rate, now) == 0
    assert taken <= rate * 2 + rate * now + 1e-6
