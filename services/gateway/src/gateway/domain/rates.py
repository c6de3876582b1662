"""How often somebody may ask: a bucket that refills at a steady rate and holds two seconds' worth."""

from __future__ import annotations

from dataclasses import dataclass

BURST_SECONDS = 2


@dataclass(slots=True)
class Bucket:
    """What is left of one allowance. `at` is the time, on any steady clock, when `left` was true."""

    left: float
    at: float

    @classmethod
    def full(cls, rate: float, now: float) -> Bucket:
        """A bucket nobody has taken from."""
        return cls(rate * BURST_SECONDS, now)

    def take(self, rate: float, now: float) -> float:
        """Take one; 0 when there was one, else the seconds until there is, and nothing is taken."""
        self.left = min(rate * BURST_SECONDS, self.left + (now - self.at) * rate)
        self.at = now
        if self.left < 1:
            return (1 - self.left) / rate
        self.left -= 1
        return 0
