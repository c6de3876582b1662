"""What tokens cost, in micro-USD, rounded up once per attempt. A model nobody priced is an error, never free.

A dollar per million tokens is a micro-dollar per token, so a price times a number of tokens is already the cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from chassis.errors import InvalidError
from execution.domain.quantities import micros_up

EMBEDDED_PROVIDER = "embedded"
EMBEDDED_MODEL = "smollm2-135m-instruct"
PUBLIC_PROVIDERS = frozenset({"openai", "anthropic"})
"""Whose prices are public, so that an organization need not say them."""
ANY = "*"
MAX_TOKENS_PER_CALL = 100_000_000
_EXACT = Context(prec=60)


class UnknownPriceError(InvalidError):
    """Nobody said what this model costs; a price row of the organization would."""

    code = "unknown_price"


@dataclass(frozen=True, slots=True)
class Rate:
    """Dollars per million tokens, for calls with more than `above_input_tokens` tokens of input."""

    input_usd_per_million: Decimal
    output_usd_per_million: Decimal
    above_input_tokens: int = -1


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What models of a provider cost; `rates` rise by their threshold and the whole call pays one of them."""

    provider: str
    model: str
    """A model's name, or the beginning of names and a star."""
    rates: tuple[Rate, ...]
    version: str
    valid_from: datetime | None = None
    """None: ever since."""

    def covers(self, provider: str, model: str, at: datetime) -> bool:
        """Whether it says what this model costs at a moment."""
        if provider != self.provider or (self.valid_from is not None and at < self.valid_from):
            return False
        return model.startswith(self.model[:-1]) if self.model.endswith(ANY) else model == self.model

    def cost_usd_micros(self, input_tokens: int, output_tokens: int) -> int:
        """What one call with these tokens costs, rounded up."""
        return self.cost_of_calls([(input_tokens, output_tokens)])

    def cost_of_calls(self, calls: Iterable[tuple[int, int]]) -> int:
        """What these calls cost together (tokens of input and output of each), rounded up once."""
        whole = Decimal(0)
        for input_tokens, output_tokens in calls:
            whole = _EXACT.add(whole, self._exact_cost(input_tokens, output_tokens))
        return micros_up(whole)

    def _exact_cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        if not (0 <= input_tokens <= MAX_TOKENS_PER_CALL and 0 <= output_tokens <= MAX_TOKENS_PER_CALL):
            raise ValueError(f"a call has between 0 and {MAX_TOKENS_PER_CALL} tokens")
        rate = self.rates[0]
        for dearer in self.rates[1:]:
            if input_tokens > dearer.above_input_tokens:
                rate = dearer
        asked = _EXACT.multiply(rate.input_usd_per_million, Decimal(input_tokens))
        answered = _EXACT.multiply(rate.output_usd_per_million, Decimal(output_tokens))
        return _EXACT.add(asked, answered)

    def highest_cost_usd_micros(self, input_tokens: int, max_output_tokens: int) -> int:
        """The most a call can cost before it is made: every allowed token of output, in the dearest rate."""
        alone = (PriceRow(self.provider, self.model, (rate,), self.version) for rate in self.rates)
        return max(row.cost_usd_micros(input_tokens, max_output_tokens) for row in alone)


EMBEDDED_PRICE = PriceRow(EMBEDDED_PROVIDER, EMBEDDED_MODEL, (Rate(Decimal("0.10"), Decimal("0.40")),), "embedded/1")
"""Not zero on purpose: budgets and costs are shown and tested without any provider."""


def price_of(provider: str, model: str, rows: Iterable[PriceRow], *, at: datetime) -> PriceRow:
    """The price of a model at a moment: the organization's own row, the embedded one, or genai-prices' public one.

    Of several own rows the exact name comes before a beginning, the longer beginning before the shorter, and then the
    latest.
    """
    own = max((row for row in rows if row.covers(provider, model, at)), key=_precedence, default=None)
    if own is not None:
        return own
    if provider == EMBEDDED_PROVIDER and model == EMBEDDED_MODEL:
        return EMBEDDED_PRICE
    if provider in PUBLIC_PROVIDERS and (
        public := _public_price(provider, model, at.replace(minute=0, second=0, microsecond=0))
    ):
        return public
    raise UnknownPriceError(
        f"No price is known for the model {model!r} of {provider!r}: say what it costs (POST /v1/model-prices)."
    )


def rate_of(input_usd_micros_per_million: int, output_usd_micros_per_million: int) -> Rate:
    """The rate of a price in whole micro-dollars per million tokens."""
    asked, answered = Decimal(input_usd_micros_per_million), Decimal(output_usd_micros_per_million)
    return Rate(asked.scaleb(-6, _EXACT), answered.scaleb(-6, _EXACT))


def _precedence(row: PriceRow) -> tuple[bool, int, float]:
    since = row.valid_from.timestamp() if row.valid_from is not None else float("-inf")
    return not row.model.endswith(ANY), len(row.model), since


@lru_cache(maxsize=1024)
def _public_price(provider: str, model: str, hour: datetime) -> PriceRow | None:
    import genai_prices  # noqa: PLC0415 - half a second and 20 MB that only paid providers need
    from genai_prices import data_snapshot  # noqa: PLC0415

    try:
        _, known = data_snapshot.get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    prices = known.get_prices(hour)
    rates = _rates(prices.input_mtok, prices.output_mtok)
    return PriceRow(provider, model, rates, f"genai-prices/{genai_prices.__version__}") if rates else None


def _rates(asked: Any, answered: Any) -> tuple[Rate, ...]:
    """Both prices cut at every threshold of either; nothing when a side has no price."""
    if asked is None or answered is None:
        return ()
    starts = {tier.start for price in (asked, answered) for tier in getattr(price, "tiers", ())}
    return tuple(
        Rate(_rate_above(asked, start), _rate_above(answered, start), start) for start in sorted({-1} | starts)
    )


def _rate_above(price: Any, start: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    rate: Decimal = price.base
    for tier in price.tiers:
        if tier.start <= start:
            rate = tier.price
    return rate
