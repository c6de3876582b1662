"""What each plan allows. The numbers are the subscription's own once it exists; a plan only fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits a subscription of this plan starts with."""

    max_users: int
    max_agents: int
    max_executions_per_month: int
    max_storage_gb: int
    max_gateways: int


PLANS: dict[str, Plan] = {
    "free": Plan(10, 50, 100_000, 5, 2),
    "pro": Plan(200, 1_000, 5_000_000, 100, 10),
    "enterprise": Plan(10_000, 50_000, 1_000_000_000, 10_000, 100),
}


def period_of(time: datetime, billing_cycle: str) -> tuple[datetime, datetime]:
    """The billing period a time lies in: a UTC month, or a UTC year for who pays annually."""
    start, end = month_of(time)
    if billing_cycle == "annual":
        start = start.replace(month=1)
        end = start.replace(year=start.year + 1)
    return start, end


def month_of(time: datetime) -> tuple[datetime, datetime]:
    """The UTC month a time lies in: its first moment, and the next month's."""
    start = time.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = start.replace(year=start.year + 1, month=1) if start.month == 12 else start.replace(month=start.month + 1)
    return start, end
