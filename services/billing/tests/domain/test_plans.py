from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from billing.domain.plans import PLANS, month_of, period_of


def test_months_are_utc_whatever_zone_the_time_was_said_in() -> None:
    late = datetime(2026, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert month_of(late) == (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC))


def test_december_ends_with_the_year() -> None:
    assert month_of(datetime(2026, 12, 5, tzinfo=UTC))[1] == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cycle", "start", "end"),
    [
        ("monthly", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("annual", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_period_is_a_month_or_a_year(cycle: str, start: datetime, end: datetime) -> None:
    assert period_of(datetime(2026, 11, 22, tzinfo=UTC), cycle) == (start, end)


def test_a_dearer_plan_allows_no_less() -> None:
    free, pro, enterprise = PLANS["free"], PLANS["pro"], PLANS["enterprise"]
    for less, more in ((free, pro), (pro, enterprise)):
        for name in less.__slots__:
            assert getattr(less, name) < getattr(more, name)
