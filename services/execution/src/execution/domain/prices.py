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
    """What one model of one provider costs; `rates` rise by their threshold and the whole call pays one of them."""

    provider: str
    model: str
    rates: tuple[Rate, ...]
    version: str

    def cost_usd_micros(self, input_tokens: int, output_tokens: int) -> int:
        """What one attempt with these tokens costs, rounded up."""
        if not (0 <= input_tokens <= MAX_TOKENS_PER_CALL and 0 <= output_tokens <= MAX_TOKENS_PER_CALL):
            raise ValueError(f"a call has between 0 and {MAX_TOKENS_PER_CALL} tokens")
        rate = self.rates[0]
        for dearer in self.rates[1:]:
            if input_tokens > dearer.above_input_tokens:
                rate = dearer
        asked = _EXACT.multiply(rate.input_usd_per_million, Decimal(input_tokens))
        answered = _EXACT.multiply(rate.output_usd_per_million, Decimal(output_tokens))
        return micros_up(_EXACT.add(asked, answered))

    def highest_cost_usd_micros(self, input_tokens: int, max_output_tokens: int) -> int:
        """The most a call can cost before it is made: every allowed token of output, in the dearest rate."""
        alone = (PriceRow(self.provider, self.model, (rate,), self.version) for rate in self.rates)
        return max(row.cost_usd_micros(input_tokens, max_output_tokens) for row in alone)


EMBEDDED_PRICE = PriceRow(EMBEDDED_PROVIDER, EMBEDDED_MODEL, (Rate(Decimal("0.10"), Decimal("0.40")),), "embedded/1")
"""Not zero on purpose: budgets and costs are shown and tested without any provider."""


def price_of(provider: str, model: str, rows: Iterable[PriceRow], *, at: datetime) -> PriceRow:
    """The price of a model at a moment: the organization's own row, the embedded one, or genai-prices' public one."""
    for row in rows:
        if row.provider == provider and row.model == model:
            return row
    if provider == EMBEDDED_PROVIDER and model == EMBEDDED_MODEL:
        return EMBEDDED_PRICE
    if provider == "openai" and (
        public := _public_price(provider, model, at.replace(minute=0, second=0, microsecond=0))
    ):
        return public
    raise UnknownPriceError(f"No price is known for the model {model!r} of {provider!r}: add a price row.")


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
