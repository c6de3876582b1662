from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.quantities import parse_duration, parse_usd, usd_to_micros


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1s", 1.0), ("60s", 60.0), ("15m", 900.0), ("24h", 86_400.0), ("30d", 2_592_000.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "60", 60, "0s", "1.5h", "-1s", "31d", "1 s", "1w", "9999999999s", None, True])
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("0.50", 500_000),
        ("2.00", 2_000_000),
        (1, 1_000_000),
        (0.1, 100_000),
        ("0.0000001", 1),
        ("0", 0),
        ("1.0000011", 1_000_002),
    ],
)
def test_money_is_rounded_up_to_the_micro_dollar(value: object, micros: int) -> None:
    assert parse_usd(value) == micros


@pytest.mark.parametrize("value", ["", "-1", "$1", "1,5", "1e3", "NaN", True, None, "1000001", 1e300, "0." + "1" * 13])
def test_not_money(value: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_usd(value)


@given(st.decimals(min_value=0, max_value=1_000_000, places=9))
def test_rounding_up_never_loses_and_never_adds_a_whole_micro(amount: Decimal) -> None:
    exact = amount * 1_000_000
    assert exact <= usd_to_micros(amount) < exact + 1
