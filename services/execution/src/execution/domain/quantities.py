"""Durations and money as people write them, to exact numbers."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

MAX_DURATION_SECONDS = 30 * 24 * 3600.0
MAX_USD = Decimal(1_000_000)
MICROS = 1_000_000

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86_400)}
_USD = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
_EXACT = Context(prec=60)


def parse_duration(text: object) -> float:
    """Seconds of `500ms`, `60s`, `15m`, `24h` or `7d`; more than zero and at most 30 days."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration is a whole number and a unit: 500ms, 60s, 15m, 24h, 7d")
    seconds = float(Decimal(match[1]) * _SECONDS[match[2]])
    if not 0 < seconds <= MAX_DURATION_SECONDS:
        raise ValueError("a duration is longer than nothing and at most 30d")
    return seconds


def parse_usd(value: object) -> int:
    """Micro-USD of a decimal amount such as "0.50", rounded up to the next micro-USD."""
    text = str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    if not _USD.fullmatch(text):
        raise ValueError('an amount is a decimal number of dollars: "0.50"')
    amount = Decimal(text)
    if amount > MAX_USD:
        raise ValueError(f"an amount is at most {MAX_USD}")
    return usd_to_micros(amount)


def usd_to_micros(amount: Decimal) -> int:
    """Micro-USD of an amount in dollars, rounded up to the next micro-USD."""
    return micros_up(_EXACT.multiply(amount, Decimal(MICROS)))


def micros_up(micros: Decimal) -> int:
    """The next whole micro-USD at or above the exact value."""
    try:
        return int(micros.to_integral_value(rounding=ROUND_CEILING, context=_EXACT))
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise ValueError("an amount is a finite number") from error
