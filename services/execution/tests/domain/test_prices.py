from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.prices import EMBEDDED_MODEL, PriceRow, Rate, UnknownPriceError, price_of, rate_of

AT = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
prices = st.decimals(min_value=0, max_value=10_000, places=6)
tokens = st.integers(0, 10_000_000)


def row(asked: Decimal, answered: Decimal, *more: Rate) -> PriceRow:
    return PriceRow("openai", "m", (Rate(asked, answered), *more), "test/1")


@given(prices, prices, tokens, tokens)
def test_cost_is_exact_and_rounded_up_once(asked: Decimal, answered: Decimal, inputs: int, outputs: int) -> None:
    exact = Fraction(asked) * inputs + Fraction(answered) * outputs
    assert row(asked, answered).cost_usd_micros(inputs, outputs) == ceil(exact)


@given(prices, prices, tokens, tokens, tokens)
def test_what_is_reserved_covers_what_is_spent(
    asked: Decimal, answered: Decimal, inputs: int, most: int, used: int
) -> None:
    priced = row(asked, answered, Rate(asked / 2, answered * 2, 1_000))
    assert priced.cost_usd_micros(inputs, min(most, used)) <= priced.highest_cost_usd_micros(inputs, most)


def test_a_long_call_pays_the_rate_of_its_length_for_all_tokens() -> None:
    priced = row(Decimal(1), Decimal(2), Rate(Decimal(3), Decimal(4), 100))
    assert priced.cost_usd_micros(100, 10) == 120
    assert priced.cost_usd_micros(101, 10) == 343


def test_calls_pay_the_rate_of_their_own_length_and_their_sum_is_rounded_once() -> None:
    priced = row(Decimal("0.4"), Decimal(2), Rate(Decimal(3), Decimal(4), 100))
    assert priced.cost_of_calls([(1, 0), (1, 0)]) == 1
    assert priced.cost_of_calls([(100, 1), (101, 1)]) == 40 + 2 + 303 + 4
    assert priced.cost_of_calls([]) == 0


def test_the_embedded_model_is_not_free() -> None:
    embedded = price_of("embedded", EMBEDDED_MODEL, [], at=AT)
    assert embedded.cost_usd_micros(100, 60) == 34
    assert embedded.cost_usd_micros(1, 0) == 1
    assert embedded.version == "embedded/1"


def test_an_own_row_comes_first() -> None:
    own = PriceRow("embedded", EMBEDDED_MODEL, (Rate(Decimal(5), Decimal(5)),), "row/7")
    assert price_of("embedded", EMBEDDED_MODEL, [own], at=AT) is own


def own(model: str, version: str, *, days: float | None = None) -> PriceRow:
    since = None if days is None else AT + timedelta(days=days)
    return PriceRow("openai", model, (Rate(Decimal(1), Decimal(1)),), version, since)


ROWS = [
    own("gpt-4o-mini", "first", days=-2),
    own("gpt-4o-mini", "second", days=-1),
    own("gpt-4o-mini", "later", days=1),
    own("*", "any"),
    own("gpt-*", "family", days=-3),
    own("gpt-4o*", "branch"),
    PriceRow("openai-compatible", "gpt-4o-mini", (Rate(Decimal(9), Decimal(9)),), "other provider"),
]


@pytest.mark.parametrize(
    ("model", "version"),
    [("gpt-4o-mini", "second"), ("gpt-4o", "branch"), ("gpt-4", "family"), ("o9", "any"), ("GPT-4", "any")],
)
def test_the_nearest_own_row_is_paid(model: str, version: str) -> None:
    for rows in (ROWS, ROWS[::-1]):
        assert price_of("openai", model, rows, at=AT).version == version


def test_a_price_holds_from_its_moment_on() -> None:
    assert price_of("openai", "gpt-4o-mini", ROWS, at=AT + timedelta(days=1)).version == "later"
    assert price_of("openai", "gpt-4o-mini", ROWS[:2], at=AT - timedelta(days=1)).version == "second"
    assert price_of("openai", "gpt-4o-mini", ROWS[:2], at=AT - timedelta(days=3)).version.startswith("genai-prices/")


@given(st.integers(0, 10_000_000_000), st.integers(0, 10_000_000_000), st.integers(0, 10**7), st.integers(0, 10**7))
def test_whole_micros_per_million_are_exact(asked: int, answered: int, inputs: int, outputs: int) -> None:
    priced = PriceRow("openai", "m", (rate_of(asked, answered),), "x")
    assert priced.cost_usd_micros(inputs, outputs) == -(-(asked * inputs + answered * outputs) // 1_000_000)


def test_public_prices_carry_their_version() -> None:
    public = price_of("openai", "gpt-4o-mini", [], at=AT)
    assert public.cost_usd_micros(1_000, 100) == 210
    assert public.version.startswith("genai-prices/")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("openai-compatible", "gpt-4o-mini"),
        ("embedded", "other"),
        ("nobody", "gpt-4o-mini"),
    ],
)
def test_an_unknown_model_is_an_error_and_never_free(provider: str, model: str) -> None:
    with pytest.raises(UnknownPriceError) as caught:
        price_of(provider, model, [], at=AT)
    assert caught.value.code == "unknown_price"


@pytest.mark.parametrize(("inputs", "outputs"), [(-1, 0), (0, -1), (10**9, 0)])
def test_counts_that_cannot_be_are_refused(inputs: int, outputs: int) -> None:
    with pytest.raises(ValueError, match="tokens"):
        row(Decimal(1), Decimal(1)).cost_usd_micros(inputs, outputs)
