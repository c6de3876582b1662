"""When a failed attempt at a step is tried again, and how long to wait before."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_ATTEMPTS = 20

FINAL_CODES = frozenset(
    {
        "cancelled",
        "crash_loop",
        "expression_failed",
        "invalid_input",
        "invalid_output_schema",
        "killed",
        "max_cost",
        "max_depth",
        "max_steps",
        "max_tokens",
        "not_supported_yet",
        "policy_denied",
        "too_large",
        "unknown_price",
    }
)
"""Codes that another attempt cannot change; no policy retries them."""


class Backoff(StrEnum):
    """How waiting grows from attempt to attempt."""

    EXPONENTIAL = "exponential"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a step is attempted and how long to wait between; `max_attempts` counts the first one too."""

    max_attempts: int = 3
    backoff: Backoff = Backoff.EXPONENTIAL
    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 60.0
    full_jitter: bool = True
    not_on: frozenset[str] = field(default=frozenset())

    def to_json(self) -> dict[str, Any]:
        """The policy as JSON, for a stored graph."""
        return {
            "max_attempts": self.max_attempts,
            "backoff": self.backoff.value,
            "first_delay_seconds": self.first_delay_seconds,
            "max_delay_seconds": self.max_delay_seconds,
            "full_jitter": self.full_jitter,
            "not_on": sorted(self.not_on),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RetryPolicy:
        """The policy a stored graph holds."""
        return cls(
            value["max_attempts"],
            Backoff(value["backoff"]),
            value["first_delay_seconds"],
            value["max_delay_seconds"],
            value["full_jitter"],
            frozenset(value["not_on"]),
        )


DEFAULT_RETRY = RetryPolicy()


def is_retryable(policy: RetryPolicy, error_code: str) -> bool:
    """Whether another attempt may help after this error."""
    return error_code not in FINAL_CODES and error_code not in policy.not_on


def should_retry(policy: RetryPolicy, attempt: int, error_code: str) -> bool:
    """Whether attempt number `attempt` (from 1), failed with this code, is followed by another."""
    return attempt < policy.max_attempts and is_retryable(policy, error_code)


def retry_delay(policy: RetryPolicy, attempt: int, random_fraction: float) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed; `random_fraction` in [0, 1) is the jitter."""
    doublings = min(max(attempt, 1) - 1, 32) if policy.backoff is Backoff.EXPONENTIAL else 0
    delay = min(policy.max_delay_seconds, policy.first_delay_seconds * 2.0**doublings)
    return delay * random_fraction if policy.full_jitter else delay
